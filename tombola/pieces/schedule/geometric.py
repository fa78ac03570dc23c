"""The same fraction of the survivors in each round."""

from dataclasses import dataclass

from tombola.pieces.schedule.target import Target, check_fraction, check_rounds, walk
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Geometric:
    """Round r keeps round_half_up(n keep^r) of all n weights in scope, counted together.

    How they are shared out among tensors is for the rule's allocation. rounds: how many; None goes
    to the first round at or below the world's judged density. Source: Frankle & Carbin 2019 (arXiv
    1803.03635), section 4: a fifth of what is left of a deep network goes in each round. Counts are
    from the original size, so that rounding does not pile up.

    Raises:
        RecipeError: less than one round, or a fraction that keeps nothing or everything.

    Example:
        >>> fc = Layer(name="fc", shape=(100, 100), kind="linear", rate=.9)
        >>> [t.density for t in Geometric().targets((fc,), .5)]
        [1.0, 0.8, 0.64, 0.512, 0.4096]
    """

    keep: float = 0.8
    rounds: int | None = None

    def __post_init__(self) -> None:
        check_fraction("Geometric(keep", self.keep)
        check_rounds("Geometric", self.rounds)

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        return walk(lambda number: self.keep**number, self.rounds, judged_density, layers)
