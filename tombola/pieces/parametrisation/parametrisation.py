"""The contract between what an optimiser trains and what a network computes with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from tombola.pieces.setting import Setting
from tombola.values.mask import Mask
from tombola.values.params import Params


class Parametrisation(Protocol):
    """A frozen dataclass.

    *Coordinates* are all tensors a training holds: those of the network under their own names,
    and others (scores, coefficients) under new ones.

    finds_mask: whether training it finds the mask, so that the one it was given says counts alone.
    cuts_to_zero: whether cut weights of the finished network are +0.0; where not, they are as they
    were when training started, bit for bit. redistributes: whether a tensor may end with another
    number of weights than the rule gave it; all together end with what was asked.
    """

    finds_mask: ClassVar[bool]
    cuts_to_zero: ClassVar[bool]

    @property
    def redistributes(self) -> bool: ...

    def refuses(self, setting: Setting) -> str | None:
        """Why this parametrisation cannot serve here, or None. Asked before anything is trained."""
        ...

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        """The coordinates training starts from."""
        ...

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        """Which coordinates the optimiser moves. names: the network's trainable parameters, and
        those that `coords` added."""
        ...

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        """The network tensors that differ from the coordinate of their name, differentiable.

        Empty for ordinary tickets: then the network runs on its own parameters.
        """
        ...

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        """The finished network: its tensors, and the mask that was found."""
        ...


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Weights are trained as they are; the mask stays as it was given."""

    finds_mask: ClassVar[bool] = False
    cuts_to_zero: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False

    def refuses(self, setting: Setting) -> str | None:
        return None

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        return mask.apply(params)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return names

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        return {}

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        return coords, mask
