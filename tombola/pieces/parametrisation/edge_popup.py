"""Edge-popup: weights are frozen, and scores are trained that choose among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.parametrisation.untrained import (
    Weights,
    check_fields,
    not_weight_free,
    untrained,
)
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, cut_to_zero
from tombola.values.params import Params
from tombola.values.rng import stream

SCORES = "scores/"


class Ranking(Enum):
    """Which scores compete."""

    EACH_TENSOR = "those of each tensor, for as many places as the mask keeps of it"
    TOGETHER = "those of all tensors, for as many places as the mask keeps in all"


@dataclass(frozen=True, kw_only=True)
class EdgePopup:
    """The network computes with the weights of largest |score|; only the scores are trained.

    Of each tensor in the mask as many weights are used, at every step, as the mask keeps: the mask
    gives counts, its places do not matter. A tensor with nothing cut is used whole, as initialised.
    The gradient goes straight through the choice, to all positions: dL/ds = dL/dw w sign(s), where
    w is the frozen weight and dL/dw the gradient of the tensor in use. Ties go to the lower index.
    Scores start uniform on +-1/sqrt(fan_in) (Kaiming uniform, a = sqrt(5)), and are no part of the
    finished network.

    weights: what is chosen among. scaled: with fan_in times the density the mask keeps of the
    tensor in the place of fan_in, so that variances are 1 / density times as large. ranking: with
    `TOGETHER`, counts are of all tensors; those of small fan-in begin with larger scores.

    Raises:
        RecipeError: a field that is not of its kind.

    Source: Ramanujan et al. 2019 (arXiv 1911.13299), section 3, and the authors' `conv_type.py`.
    Differs: their networks have no biases and no affine normalisation; here those stay frozen at
    their initial values (zero and one in this package's models). Their code scales by the fraction
    cut, which is the paper's only at one half, and keeps n - int((1 - k) n) weights, which is all
    ten of ten at k = .9.
    """

    finds_mask: ClassVar[bool] = True
    cuts_to_zero: ClassVar[bool] = True

    weights: Weights = Weights.SIGNED_CONSTANT
    scaled: bool = False
    ranking: Ranking = Ranking.EACH_TENSOR

    def __post_init__(self) -> None:
        check_fields(self, weights=Weights, scaled=bool, ranking=Ranking)

    @property
    def redistributes(self) -> bool:
        return self.ranking is Ranking.TOGETHER

    def refuses(self, setting: Setting) -> str | None:
        return not_weight_free(self, self.weights, setting)

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        mask.check(params)
        if not mask.names:
            raise RecipeError(
                "EdgePopup: the mask cuts nothing, so there is no score to train; want a density "
                "below 1."
            )
        start = {}
        for name, kept in mask.items():
            weight, fan_in = params[name], math.prod(params[name].shape[1:])
            start[name] = untrained(self.weights, weight, seed, name)
            if self.scaled:
                start[name] = start[name] * math.sqrt(kept.numel() / max(1, int(kept.sum())))
            bound = 1.0 / math.sqrt(fan_in)
            start[SCORES + name] = torch.empty_like(weight).uniform_(
                -bound, bound, generator=stream(seed, "edge-popup", name)
            )
        return params.replaced(start)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in names if name.startswith(SCORES))

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        found, top = {}, self.chosen(coords, mask)
        for name in mask.names:
            through = coords[name] * coords[SCORES + name].abs()
            # x - x is +0.0: the value is the chosen weights, bit for bit, the gradient `through`'s.
            found[name] = cut_to_zero(coords[name], top[name]) + (through - through.detach())
        return found

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        found = Mask(self.chosen(coords, mask))
        network = {name: t for name, t in coords.items() if not name.startswith(SCORES)}
        return found.apply(Params(network)), found

    def chosen(self, coords: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
        """Bool, of each tensor in the mask: the places of the largest |score|."""
        sizes = {name: coords[SCORES + name].detach().abs() for name in mask.names}
        if self.ranking is Ranking.EACH_TENSOR:
            return {n: _largest(size, int(mask[n].sum())) for n, size in sizes.items()}
        count = sum(int(kept.sum()) for _, kept in mask.items())
        best = _largest(torch.cat([size.reshape(-1) for size in sizes.values()]), count)
        parts = best.split([size.numel() for size in sizes.values()])
        return {
            name: part.reshape(size.shape)
            for (name, size), part in zip(sizes.items(), parts, strict=True)
        }


def _largest(size: Tensor, count: int) -> Tensor:
    return largest(size, torch.ones_like(size, dtype=torch.bool), count)
