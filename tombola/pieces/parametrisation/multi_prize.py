"""Multi-prize tickets: edge-popup, with the weights it chooses reduced to signs and one gain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.parametrisation.edge_popup import SCORES, EdgePopup
from tombola.pieces.parametrisation.untrained import Weights, check_fields
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class MultiPrize:
    """The network computes with gain * sign(w) where edge-popup would with w.

    The gain of a tensor is the mean |w| of the weights in use, the number by which signs come
    closest to them in least squares. Scores have the gradient that edge-popup gives them, dL/ds =
    dL/dw w sign(s), with w the frozen weight and dL/dw the gradient of the tensor in use; gain and
    choice are constants to it. With weights of one size (`Weights.SIGNED_CONSTANT`) it is
    edge-popup, bit for bit. The sign of 0 is +. This is MPT-1/32; in a world with binary
    activations (`tombola.binarised`) it is MPT-1/1.

    search: how weights are drawn, and chosen. Their size sets the gain and the pace of the scores,
    nothing else.

    Raises:
        RecipeError: a search of another kind.

    Source: Diffenderfer & Kailkhura 2021 (arXiv 2103.09377), algorithm 1 (biprop), and the authors'
    `conv_type.py`. Differs: their code divides by int(k n), which may not be the number of weights
    in use (29 of 100 at k = .29, divided by 28), and drops weights that are exactly zero.

    Example:
        >>> prize = MultiPrize(search=EdgePopup(weights=Weights.AS_IS))
        >>> net = Params({"w": torch.tensor([[3.0, -1.0, 2.0, 0.5]])})
        >>> mask = Mask({"w": torch.tensor([[True, True, False, False]])})
        >>> coords = prize.coords(net, mask, seed=0)
        >>> scores = {"scores/w": torch.tensor([[0.1, -0.9, 0.2, -0.7]])}
        >>> prize.settle(coords.replaced(scores), mask)[0]["w"]
        tensor([[ 0.0000, -0.7500,  0.0000,  0.7500]])
    """

    finds_mask: ClassVar[bool] = True
    cuts_to_zero: ClassVar[bool] = True

    search: EdgePopup = field(
        default_factory=lambda: EdgePopup(weights=Weights.KAIMING, scaled=True)
    )

    def __post_init__(self) -> None:
        check_fields(self, search=EdgePopup)

    @property
    def redistributes(self) -> bool:
        return self.search.redistributes

    def refuses(self, setting: Setting) -> str | None:
        return self.search.refuses(setting)

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        return self.search.coords(params, mask, seed)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return self.search.trained(names)

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        found, top = {}, self.search.chosen(coords, mask)
        for name in mask.names:
            through = coords[name] * coords[SCORES + name].abs()
            # x - x is +0.0: the value is the signs times the gain, the gradient `through`'s.
            found[name] = signed(coords[name], top[name]) + (through - through.detach())
        return found

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        top = self.search.chosen(coords, mask)
        own = {name: t for name, t in coords.items() if not name.startswith(SCORES)}
        own |= {name: signed(own[name], kept) for name, kept in top.items()}
        return Params(own), Mask(top)


def signed(weight: Tensor, kept: Tensor) -> Tensor:
    """The signs of the weights kept, times their mean size; +0.0 elsewhere.

    Summed in float64, in which as many numbers of one size as fit a tensor add up exactly.

    >>> signed(torch.tensor([3.0, -0.0, -5.0, 1.0]), torch.tensor([True, True, True, False]))
    tensor([ 2.6667,  2.6667, -2.6667,  0.0000])
    """
    total = torch.where(kept, weight.abs(), 0.0).sum(dtype=torch.float64)
    gain = (total / kept.sum().clamp(min=1)).to(weight.dtype)
    return torch.where(kept, torch.where(weight < 0, -gain, gain), 0.0)
