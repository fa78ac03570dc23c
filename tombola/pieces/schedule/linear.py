"""The same number of weights in each round."""

import math
from dataclasses import dataclass
from fractions import Fraction

from tombola.errors import RecipeError
from tombola.pieces.schedule.target import (
    Target,
    at_or_below,
    check_fraction,
    check_rounds,
    walk,
)
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Round r keeps round_half_up(n (1 - r cut)) of all n weights in scope.

    `cut` is a fraction of the *original* n weights, not of the survivors; how what is kept is
    shared out among tensors is for the rule's allocation. rounds: how many; None goes to the first
    round at or below the world's judged density. Source: Chen, Frankle et al. 2020 (arXiv
    2007.12223), tickets of pre-trained BERT, and the authors' code: a tenth of the original weights
    in each round, for densities .9, .8, .. .1.

    Raises:
        RecipeError: less than one round, or rounds after which nothing would be left.

    Example:
        >>> fc = Layer(name="fc", shape=(10, 10), kind="linear", rate=.8)
        >>> [t.density for t in Linear().targets((fc,), .65)]
        [1.0, 0.9, 0.8, 0.7, 0.6]
    """

    cut: float = 0.1
    rounds: int | None = None

    def __post_init__(self) -> None:
        check_fraction("Linear(cut", self.cut)
        check_rounds("Linear", self.rounds)
        if self.rounds is not None and self.rounds > self._last:
            raise RecipeError(
                f"Linear(cut={self.cut}, rounds={self.rounds}) would leave nothing; want at most "
                f"{self._last} rounds, or a smaller cut."
            )

    @property
    def _last(self) -> int:
        """The last round that keeps anything."""
        return math.ceil(1 / self._exact) - 1

    @property
    def _exact(self) -> Fraction:
        """The decimal number that was written: three times .1 is .3, so that halves go up."""
        return Fraction(str(self.cut))

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        sparsest = Target(round=self._last, density=self.density(self._last))
        if self.rounds is None and not at_or_below(sparsest, judged_density, layers):
            raise RecipeError(
                f"Linear(cut={self.cut}) goes from density {sparsest.density:g} to nothing, past "
                f"the judged density {judged_density:g}; take a smaller cut, or say how many "
                "rounds."
            )
        return walk(self.density, self.rounds, judged_density, layers)

    def density(self, number: int) -> float:
        """Fraction kept in a round."""
        return float(1 - number * self._exact)
