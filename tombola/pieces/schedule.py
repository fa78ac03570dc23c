"""How much is kept in each round: a schedule yields targets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tombola.errors import RecipeError
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a round must keep. Round 0 is the dense network.

    density: fraction of all weights in scope. counts: exact number for each tensor, where the
    schedule sets them; None leaves the sharing to the rule's allocation.
    """

    round: int
    density: float
    counts: Mapping[str, int] | None = None


class Schedule(Protocol):
    """A frozen dataclass with one method."""

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        """Round 0 first, then densities that do not grow; rounds are numbered without gaps."""
        ...


DENSE = Target(round=0, density=1.0)


def round_half_up(value: float) -> int:
    """floor(value + 1/2): the count a fraction asks for, without banker's rounding.

    >>> round_half_up(2.5), round_half_up(3.5), round_half_up(0.4)
    (3, 4, 0)
    """
    return math.floor(value + 0.5)


@dataclass(frozen=True, kw_only=True)
class LayerRates:
    """Each tensor keeps round_half_up(n q^r) of its *original* n weights in round r.

    q is the world's rate for that kind of layer (2019: .8 for fully connected, .9 for the output
    layer). rounds: how many; None goes to the first round at or below the world's judged density.
    Source: Frankle & Carbin 2019 (arXiv 1803.03635), section 2 and appendix G: counts from the
    original size, so that rounding does not pile up.

    Example:
        >>> fc = Layer(name="fc", shape=(10, 10), kind="linear", rate=.8)
        >>> [t.counts for t in LayerRates(rounds=2).targets((fc,), .5)[1:]]
        [{'fc': 80}, {'fc': 64}]
    """

    rounds: int | None = None

    def __post_init__(self) -> None:
        if self.rounds is not None and self.rounds < 1:
            raise RecipeError(f"LayerRates(rounds={self.rounds}): want at least one round.")

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        if all(layer.rate >= 1.0 for layer in layers):
            raise RecipeError(
                "LayerRates: every layer's rate is 1, so no round would cut anything."
            )
        found = [DENSE]
        while self._goes_on(found[-1], judged_density):
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

    def _goes_on(self, last: Target, judged_density: float) -> bool:
        if self.rounds is not None:
            return last.round < self.rounds
        return last.density > judged_density


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


@dataclass(frozen=True, kw_only=True)
class UpTo:
    """Another schedule's rounds up to one of them, unchanged."""

    of: Schedule
    round: int

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        all_rounds = self.of.targets(layers, judged_density)
        return tuple(target for target in all_rounds if target.round <= self.round)


def check_density(where: str, density: float) -> float:
    """`density` if it is a fraction kept in (0, 1], else a RecipeError that says what to pass."""
    if isinstance(density, (int, float)) and 0.0 < density <= 1.0:
        return float(density)
    hint = ""
    if isinstance(density, (int, float)) and 1.0 < density < 100.0:
        hint = f" To keep {density:g} % of the weights pass {density / 100:g}."
    raise RecipeError(
        f"{where}: density {density} is not a fraction kept; want more than 0, at most 1.{hint}"
    )
