"""What the probe `relearning` measured, and the tables of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean
from typing import TypeAlias

from tombola.lab.probe.barriers import mean_of
from tombola.lab.probe.opinions import Told
from tombola.lab.probe.path import Walked, height
from tombola.lab.probe.probe import Row

TICKET, SCRATCH, SOLUTION = "ticket", "scratch", "solution"
KINDS = (TICKET, SCRATCH)


@dataclass(frozen=True, kw_only=True)
class Relearned:
    """What was found with one seed. walked: for each kind, from each of its copies to the pruning
    solution. masks: digests of what each network keeps, the solution first."""

    walked: Mapping[str, tuple[Walked, ...]]
    told: Told
    masks: tuple[str, ...]


Found: TypeAlias = Relearned | None
"""None where a training diverged."""


def _mean(walks: Sequence[Walked] | None, value: Callable[[Walked], float | None]) -> float | None:
    return None if walks is None else mean_of([value(walked) for walked in walks])


def _losses(walked: Walked) -> list[float | None]:
    return walked.metrics.get("loss", [])


def _errors(walked: Walked) -> list[float | None]:
    right = walked.metrics.get("accuracy", [])
    return [None if value is None else 1.0 - value for value in right]


def distances_row(found: Sequence[Found], kind: str, places: Sequence[float]) -> Row:
    """Means over the copies of each seed."""
    of = [None if seed is None else seed.walked[kind] for seed in found]
    return Row(
        place={"network": kind},
        metrics={
            "distance_at_start": [_mean(walks, lambda w: w.second_moved) for walks in of],
            "distance_at_end": [_mean(walks, lambda w: w.apart) for walks in of],
            "loss_barrier": [_mean(walks, lambda w: height(_losses(w), places)) for walks in of],
            "error_barrier": [_mean(walks, lambda w: height(_errors(w), places)) for walks in of],
        },
    )


def answers_row(found: Sequence[Found], kind: str) -> Row:
    """Fractions of the test split: than the solution, and among the copies."""
    told = [None if seed is None else _disagree(seed.told, kind) for seed in found]
    return Row(
        place={"network": kind},
        metrics={
            name: [None if one is None else one[place] for one in told]
            for place, name in enumerate(("than_solution", "among_copies"))
        },
    )


def _disagree(told: Told, kind: str) -> tuple[float, float]:
    """Means over copies, and over their pairs."""
    members = sorted(name for name in told.alone if name.startswith(f"{kind}-"))
    pairs = combinations(members, 2)
    return (
        mean(told.disagree["|".join(sorted((SOLUTION, name)))] for name in members),
        mean(told.disagree[f"{one}|{other}"] for one, other in pairs),
    )


def solution_row(found: Sequence[Found]) -> Row:
    right = [None if seed is None else seed.told.alone[SOLUTION] for seed in found]
    return Row(place={"network": SOLUTION, "members": 1}, metrics={"test_accuracy": right})


def ensemble_row(found: Sequence[Found], kind: str, number: int) -> Row:
    right = [None if seed is None else seed.told.together[kind][number] for seed in found]
    return Row(place={"network": kind, "members": number + 1}, metrics={"test_accuracy": right})


def path_row(found: Sequence[Found], kind: str, number: int, place: float) -> Row:
    of = [None if seed is None else seed.walked[kind] for seed in found]
    return Row(
        place={"network": kind, "alpha": place},
        metrics={
            "loss": [_mean(walks, lambda w: _losses(w)[number]) for walks in of],
            "error": [_mean(walks, lambda w: _errors(w)[number]) for walks in of],
        },
    )
