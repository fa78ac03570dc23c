"""Fast at first, slow at the end."""

from dataclasses import dataclass

from tombola.pieces.schedule.target import Target, check_density, check_rounds, walk
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Cubic:
    """Round r of n keeps density f + (1 - f) (1 - r/n)^3 of all weights in scope, together.

    f = `final`; None is the world's judged density. How what is kept is shared out among tensors is
    for the rule's allocation. Source: Zhu & Gupta 2017 (arXiv 1710.01878), equation 1, written with
    densities, from a dense start; there r counts prunings during one training, here rounds, each
    with a training of its own.

    Raises:
        RecipeError: less than one round, or a final density outside (0, 1].

    Example:
        >>> fc = Layer(name="fc", shape=(100, 100), kind="linear", rate=.8)
        >>> [t.density for t in Cubic(rounds=4, final=.2).targets((fc,), .1)]
        [1.0, 0.5375, 0.3, 0.2125, 0.2]
    """

    rounds: int
    final: float | None = None

    def __post_init__(self) -> None:
        check_rounds("Cubic", self.rounds)
        if self.final is not None:
            check_density("Cubic(final)", self.final)

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        final = judged_density if self.final is None else self.final

        def density(number: int) -> float:
            return final + (1.0 - final) * (1.0 - number / self.rounds) ** 3

        return walk(density, self.rounds, judged_density, layers)
