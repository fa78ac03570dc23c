"""What a training that begins denser than its target is to end with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.dynamics.dynamics import Dynamics
from tombola.pieces.dynamics.exchange import size_of
from tombola.pieces.schedule import round_half_up
from tombola.pieces.select import keep_top, keep_top_together
from tombola.values.layer import Layer
from tombola.values.mask import Mask


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How many weights are kept in the end: of each tensor, or of all in scope together."""

    layers: tuple[Layer, ...]
    asked: Mapping[str, int] | int

    @property
    def total(self) -> int:
        """Weights kept of all tensors."""
        return self.asked if isinstance(self.asked, int) else sum(self.asked.values())

    @property
    def whole(self) -> int:
        """Weights in scope, kept or not."""
        return sum(layer.count for layer in self.layers)

    def keep(self, coords: Mapping[str, Tensor], prior: Mask, share: float) -> dict[str, Tensor]:
        """The largest |w| of what `prior` keeps, as many as the end asks for and a share of the
        rest.

        share: of the weights that the end cuts, 1 for the whole network, 0 for the end; rounded
        half up to weights. Ties keep the lower index, together also the earlier tensor.
        """
        if isinstance(self.asked, int):
            count = self.asked + round_half_up((self.whole - self.asked) * share)
            return self.keep_together(coords, prior, count)
        counts = {
            layer.name: least + round_half_up((layer.count - least) * share)
            for layer in self.layers
            for least in (self.asked[layer.name],)
        }
        return self._found(keep_top(self._sizes(coords), self.layers, counts, prior))

    def keep_together(
        self, coords: Mapping[str, Tensor], prior: Mask, count: int
    ) -> dict[str, Tensor]:
        """The `count` largest |w| of all tensors, of what `prior` keeps."""
        return self._found(keep_top_together(self._sizes(coords), self.layers, count, prior))

    def _sizes(self, coords: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """|w|, finite, so that counts stay exact in a training that is diverging."""
        most = {name: torch.finfo(coords[name].dtype).max for name in self._names}
        return {name: size_of(coords[name]).clamp(max=most[name]) for name in self._names}

    def _found(self, mask: Mask) -> dict[str, Tensor]:
        return {layer.name: mask.of(layer.name, layer.shape) for layer in self.layers}

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)


@runtime_checkable
class Thinning(Protocol):
    """A dynamics that begins denser than its target, and has to be told where it ends."""

    def opening(self, density: float) -> float:
        """The density training begins with, for one to end with."""
        ...

    def ending_with(self, ending: Ending) -> Dynamics:
        """This dynamics, told its end."""
        ...


def told(piece: object, ending: Ending | None) -> Ending:
    """The end that a dynamics was told.

    Raises:
        RecipeError: it was told none.
    """
    if ending is None:
        raise RecipeError(
            f"{type(piece).__name__} was not told what training is to end with. Recipes with the "
            "loop `grow` tell it; elsewhere pass it through `ending_with`."
        )
    return ending
