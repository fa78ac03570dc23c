"""Which executors trained a study, in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from tombola.out.amounts import several


def executors_of(trials: Iterable[Mapping[str, Any]]) -> list[str]:
    """A part for each executor, and for each reason not to take another; trainings that several
    trials share count once.

    >>> one = {"call": "a", "executor": "dense", "why_dense": "a density above 0.9"}
    >>> executors_of([one, one, {"call": "b", "executor": "sparse (c)", "why_dense": None}])
    ['sparse (c): 1 training', 'dense: 1 training, for a density above 0.9']
    """
    counted: dict[tuple[str, str | None], set[str]] = {}
    for trial in trials:
        kind = trial["executor"], trial["why_dense"]
        counted.setdefault(kind, set()).add(trial["call"])
    ordered = sorted(counted.items(), key=lambda one: (one[0][0] == "dense", one[0][1] or ""))
    return [
        f"{name}: {several(len(calls), 'training')}" + (f", for {why}" if why else "")
        for (name, why), calls in ordered
    ]
