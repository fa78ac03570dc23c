"""Each kind of layer at a rate of its own."""

from dataclasses import dataclass

from tombola.errors import RecipeError
from tombola.pieces.schedule.target import (
    DENSE,
    Target,
    at_or_below,
    check_rounds,
    round_half_up,
)
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class LayerRates:
    """Each tensor keeps round_half_up(n q^r) of its *original* n weights in round r.

    q is the world's rate for that kind of layer (2019: .8 for fully connected, .9 for the output
    layer). rounds: how many; None goes to the first round at or below the world's judged density.
    Source: Frankle & Carbin 2019 (arXiv 1803.03635), section 2 and appendix G: counts from the
    original size, so that rounding does not pile up.

    Raises:
        RecipeError: less than one round, or no layer that a round would cut.

    Example:
        >>> fc = Layer(name="fc", shape=(10, 10), kind="linear", rate=.8)
        >>> [t.counts for t in LayerRates(rounds=2).targets((fc,), .5)[1:]]
        [{'fc': 80}, {'fc': 64}]
    """

    rounds: int | None = None

    def __post_init__(self) -> None:
        check_rounds("LayerRates", self.rounds)

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        if all(layer.rate >= 1.0 for layer in layers):
            raise RecipeError(
                "LayerRates: every layer's rate is 1, so no round would cut anything."
            )
        found = [DENSE]
        while self._goes_on(found[-1], judged_density, layers):
            number = found[-1].round + 1
            counts = {
                layer.name: round_half_up(layer.count * layer.rate**number) for layer in layers
            }
            total = sum(layer.count for layer in layers)
            target = Target(round=number, density=sum(counts.values()) / total, counts=counts)
            if counts == found[-1].counts and all(
                layer.rate >= 1.0 or not counts[layer.name] for layer in layers
            ):
                break  # nothing is left to cut (rounding may hold every count for a round)
            found.append(target)
        return tuple(found)

    def _goes_on(self, last: Target, judged_density: float, layers: tuple[Layer, ...]) -> bool:
        if self.rounds is not None:
            return last.round < self.rounds
        return not at_or_below(last, judged_density, layers)
