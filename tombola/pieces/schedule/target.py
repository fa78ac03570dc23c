"""What a round must keep, and the contract of the schedules that say so."""

import math
from collections.abc import Callable, Mapping
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


def at_or_below(target: Target, judged_density: float, layers: tuple[Layer, ...]) -> bool:
    """Whether a target keeps no more than a density asks for, to the nearest weight.

    >>> three = (Layer(name="fc", shape=(3,), kind="linear", rate=.8),)
    >>> [at_or_below(Target(round=1, density=kept / 3), .6, three) for kept in (2, 3)]
    [True, False]
    """
    total = sum(layer.count for layer in layers)
    return round_half_up(target.density * total) <= round_half_up(judged_density * total)


def walk(
    density: Callable[[int], float],
    rounds: int | None,
    judged_density: float,
    layers: tuple[Layer, ...],
) -> tuple[Target, ...]:
    """Round by round, whole weights of all tensors together.

    density: of a round, rounded half up to weights. rounds: how many; None goes to the first round
    at or below the judged density.
    """
    total = sum(layer.count for layer in layers)
    found = [DENSE]
    while (
        len(found) <= rounds
        if rounds is not None
        else not at_or_below(found[-1], judged_density, layers)
    ):
        kept = round_half_up(density(len(found)) * total)
        found.append(Target(round=len(found), density=kept / total))
    return tuple(found)


def check_rounds(where: str, rounds: int | None) -> None:
    """Raise RecipeError unless there is at least one round, or None."""
    if rounds is not None and rounds < 1:
        raise RecipeError(f"{where}(rounds={rounds}): want at least one round.")


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


def check_fraction(where: str, value: float) -> None:
    """Raise RecipeError unless a round's fraction leaves something to keep and something to cut."""
    if not (isinstance(value, (int, float)) and 0.0 < value < 1.0):
        raise RecipeError(f"{where}={value}): want a fraction between 0 and 1, neither included.")
