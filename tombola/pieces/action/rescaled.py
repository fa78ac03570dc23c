"""Another action's values, made larger as fewer are kept."""

import math
from dataclasses import dataclass

from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.action.action import Action, Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Rescaled:
    """v (n / k)^power: v of another action, n the weights of the tensor, k those it keeps.

    power: 1 for n / k, as in the authors' code (their `rescaling`); .5 leaves the variance of what
    a unit adds up as it was before the cut. Where nothing is kept, v. Source: Zhou et al. 2019
    (arXiv 1905.01067).

    Raises:
        RecipeError: a power that is not finite.
    """

    of: Action
    power: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.power):
            raise RecipeError(
                f"Rescaled(power={self.power}): want a number; 1 as in the authors' code, or 0.5."
            )

    @property
    def needs(self) -> frozenset[Need]:
        return self.of.needs

    def __call__(self, at: Site) -> Tensor:
        kept = max(1, int(at.kept.sum()))
        factor: float = (at.kept.numel() / kept) ** self.power
        return self.of(at) * factor
