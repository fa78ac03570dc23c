"""The densities one names."""

from dataclasses import dataclass

from tombola.errors import RecipeError
from tombola.pieces.schedule.target import DENSE, Target, check_density
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Densities:
    """The densities given, one a round; `None` is the world's judged density alone.

    Raises:
        RecipeError: a density outside (0, 1], not a number, or larger than the one before.

    Example:
        >>> [t.density for t in Densities(values=(.5, .1)).targets((), .1)]
        [1.0, 0.5, 0.1]
    """

    values: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.values == ():
            raise RecipeError("Densities(values=()): want at least one density.")
        for density in self.values or ():
            check_density("Densities", density)
        if self.values is not None and list(self.values) != sorted(self.values, reverse=True):
            raise RecipeError(f"Densities(values={self.values}): want them from dense to sparse.")

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        values = (judged_density,) if self.values is None else self.values
        later = (Target(round=i, density=d) for i, d in enumerate(values, start=1))
        return (DENSE, *later)
