"""Supermasks: weights are frozen, and the chance of each to be used is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
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

LOGITS = "logits/"


@dataclass(frozen=True, kw_only=True)
class Supermask:
    """At every step each weight is used with probability sigmoid(m); only the m are trained.

    The gradient goes straight through the draw to the probability, at all positions: dL/dm = dL/dw
    w p (1 - p), where w is the frozen weight and dL/dw the gradient of the tensor in use. All m of
    a tensor start at the log odds of the density that the mask keeps of it; its places do not
    matter. The finished network, and the one that is measured, uses the largest m, as many as the
    mask keeps. Ties go to the lower index. Draws are part of the step's noise.

    weights: what is chosen among. rescaled: what is in use is multiplied by the tensor's weights
    over those in use, step by step, and in the finished network.

    Raises:
        RecipeError: a field that is not of its kind.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 5, dynamic weight rescaling included.
    Differs: there the finished network is another draw, so of no exact count, and accuracies are of
    ten draws.
    """

    finds_mask: ClassVar[bool] = True
    cuts_to_zero: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False

    weights: Weights = Weights.AS_IS
    rescaled: bool = True

    def __post_init__(self) -> None:
        check_fields(self, weights=Weights, rescaled=bool)

    def refuses(self, setting: Setting) -> str | None:
        return not_weight_free(self, self.weights, setting)

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        mask.check(params)
        if not mask.names:
            raise RecipeError(
                "Supermask: the mask cuts nothing, so there is no chance to train; want a density "
                "below 1."
            )
        start = {}
        for name, kept in mask.items():
            share = min(max(int(kept.sum()), 1) / kept.numel(), 1.0 - 1.0 / (kept.numel() + 1))
            start[name] = untrained(self.weights, params[name], seed, name)
            start[LOGITS + name] = torch.full_like(params[name], math.log(share / (1.0 - share)))
        return params.replaced(start)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in names if name.startswith(LOGITS))

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        """Draws from torch's generator, which the step has seeded; the finished network where no
        gradient is wanted."""
        if not torch.is_grad_enabled():
            return {name: self._finished(coords, mask, name)[0] for name in mask.names}
        found = {}
        for name in mask.names:
            chance = coords[LOGITS + name].sigmoid()
            drawn = torch.bernoulli(chance.detach()) == 1.0
            through = coords[name] * chance
            # x - x is +0.0: the value is the drawn weights, bit for bit, the gradient `through`'s.
            used = cut_to_zero(coords[name], drawn) + (through - through.detach())
            found[name] = used * self._factor(drawn)
        return found

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        both = {name: self._finished(coords, mask, name) for name in mask.names}
        network = {name: t for name, t in coords.items() if not name.startswith(LOGITS)}
        network |= {name: weight for name, (weight, _) in both.items()}
        return Params(network), Mask({name: kept for name, (_, kept) in both.items()})

    def _finished(
        self, coords: Mapping[str, Tensor], mask: Mask, name: str
    ) -> tuple[Tensor, Tensor]:
        """A tensor of the finished network, and what of it is used."""
        logits = coords[LOGITS + name].detach()
        anywhere = torch.ones_like(logits, dtype=torch.bool)
        kept = largest(logits, anywhere, int(mask[name].sum()))
        return cut_to_zero(coords[name].detach() * self._factor(kept), kept), kept

    def _factor(self, used: Tensor) -> float:
        return used.numel() / max(1, int(used.sum())) if self.rescaled else 1.0
