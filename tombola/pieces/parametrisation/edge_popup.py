"""Edge-popup: weights are frozen, and scores are trained that choose among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, cut_to_zero
from tombola.values.params import Params
from tombola.values.rng import stream

SCORES = "scores/"


class Weights(Enum):
    """The values among which edge-popup chooses."""

    SIGNED_CONSTANT = "sign(w) * sqrt(2 / fan_in), w the initial weight"
    AS_IS = "the initial weights"


@dataclass(frozen=True, kw_only=True)
class EdgePopup:
    """The network computes with the weights of largest |score|; only the scores are trained.

    Of each tensor in the mask as many weights are used, at every step, as the mask keeps: the mask
    gives counts, its places do not matter. A tensor with nothing cut is used whole, as initialised.
    The gradient goes straight through the choice, to all positions: dL/ds = dL/dw w sign(s), where
    w is the frozen weight and dL/dw the gradient of the tensor in use. Ties go to the lower index.
    Scores start uniform on +-1/sqrt(fan_in) (Kaiming uniform, a = sqrt(5)), and are no part of the
    finished network.

    Source: Ramanujan et al. 2019 (arXiv 1911.13299), section 3, and the authors' `conv_type.py`.
    Differs: their networks have no biases and no affine normalisation; here those stay frozen at
    their initial values (zero and one in this package's models).
    """

    finds_mask: ClassVar[bool] = True
    cuts_to_zero: ClassVar[bool] = True

    weights: Weights = Weights.SIGNED_CONSTANT

    def refuses(self, setting: Setting) -> str | None:
        if all(target.density < 1.0 for target in setting.targets if target.round):
            return None
        return "EdgePopup has no score to train where nothing is cut; want densities below 1."

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        mask.check(params)
        if not mask.names:
            raise RecipeError(
                "EdgePopup: the mask cuts nothing, so there is no score to train; want a density "
                "below 1."
            )
        start = {}
        for name in mask.names:
            weight, fan_in = params[name], math.prod(params[name].shape[1:])
            if self.weights is Weights.SIGNED_CONSTANT:
                start[name] = weight.sign() * math.sqrt(2.0 / fan_in)
            bound = 1.0 / math.sqrt(fan_in)
            start[SCORES + name] = torch.empty_like(weight).uniform_(
                -bound, bound, generator=stream(seed, "edge-popup", name)
            )
        return params.replaced(start)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in names if name.startswith(SCORES))

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        found = {}
        for name in mask.names:
            weight, size = coords[name], coords[SCORES + name].abs()
            through = weight * size
            # x - x is +0.0: the value is the chosen weights, bit for bit, the gradient `through`'s.
            top = largest(size.detach(), _anywhere(size), int(mask[name].sum()))
            found[name] = cut_to_zero(weight, top) + (through - through.detach())
        return found

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        sizes = {name: coords[SCORES + name].abs() for name in mask.names}
        found = Mask(
            {
                name: largest(size, _anywhere(size), int(mask[name].sum()))
                for name, size in sizes.items()
            }
        )
        network = {name: t for name, t in coords.items() if not name.startswith(SCORES)}
        return found.apply(Params(network)), found


def _anywhere(tensor: Tensor) -> Tensor:
    return torch.ones_like(tensor, dtype=torch.bool)
