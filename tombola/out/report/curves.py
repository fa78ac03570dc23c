"""Validation curves of a study: means over seeds with their intervals, thinned for drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import stats

from tombola.lab.study import Study
from tombola.recipes.jobs import Trained

MOST_POINTS = 100

Readings: TypeAlias = Sequence[Mapping[str, float]]
"""The evaluations of one training in order: `step`, `loss` and the other metrics."""

Place: TypeAlias = tuple[str, int]
"""Arm and round."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one arm and round; all arrays (points,).

    steps: optimiser steps. n: seeds that had not diverged by then. mean, low, high: over those
    seeds, low and high the 95 % t interval, NaN with one seed. draws of a seed are averaged first.
    """

    steps: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Curves:
    """All curves. metrics: names, `loss` first. missing: trainings whose readings are not in the
    store any more, as (arm, round, seed). every: one evaluation in so many is drawn."""

    of: Mapping[Place, Mapping[str, Curve]]
    metrics: tuple[str, ...]
    missing: tuple[tuple[str, int, int], ...]
    every: int


def curves_of(study: Study) -> Curves:
    """Read every trial's validation curve from the store and take means over seeds."""
    found: dict[Place, dict[int, list[Readings]]] = {}
    missing: list[tuple[str, int, int]] = []
    read: dict[str, Readings | None] = {}
    for trial in study.facts["trials"]:
        call, place = trial["call"], (trial["arm"], trial["round"])
        if call not in read:
            trained = study.store.recall(call, Trained)
            read[call] = None if trained is None else trained.readings
        readings = read[call]
        if readings is None:
            missing.append((*place, trial["seed"]))
        elif readings:
            found.setdefault(place, {}).setdefault(trial["seed"], []).append(readings)
    names = sorted({name for of in read.values() for one in of or () for name in one} - {"step"})
    names.sort(key=lambda name: name != "loss")
    longest = max((len(of) for of in read.values() if of), default=0)
    every = -(-longest // MOST_POINTS)
    return Curves(
        of={
            place: {name: mean_curve(list(of.values()), name, every) for name in names}
            for place, of in found.items()
        },
        metrics=tuple(names),
        missing=tuple(dict.fromkeys(missing)),
        every=max(1, every),
    )


def mean_curve(seeds: Sequence[Sequence[Readings]], metric: str, every: int = 1) -> Curve:
    """The mean over seeds at each step that any of them was evaluated at.

    seeds: for each seed the readings of its draws. every: keep one step in so many, counted from
    the last.

    Example:
        >>> one = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5}]
        >>> other = [{"step": 10, "loss": 3.0}]  # diverged before step 20
        >>> curve = mean_curve([[one], [other]], "loss")
        >>> curve.mean.tolist(), curve.n.tolist()
        ([2.0, 0.5], [2, 1])
    """
    steps = sorted({reading["step"] for draws in seeds for one in draws for reading in one})
    steps = steps[::-1][::every][::-1]
    place = {step: column for column, step in enumerate(steps)}
    values = np.full((len(seeds), len(steps)), np.nan)
    for row, draws in enumerate(seeds):
        drawn = np.full((len(draws), len(steps)), np.nan)
        for draw, readings in enumerate(draws):
            for reading in readings:
                if reading["step"] in place:
                    drawn[draw, place[reading["step"]]] = reading[metric]
        values[row] = _mean(drawn)
    n, mean = (~np.isnan(values)).sum(axis=0), _mean(values)
    square = np.nansum((values - mean) ** 2, axis=0)
    several = n > 1
    half = np.full(len(steps), np.nan)
    degrees = n[several] - 1
    spread = np.sqrt(square[several] / degrees / n[several])
    half[several] = stats.t.ppf(0.975, degrees) * spread
    return Curve(steps=np.array(steps), n=n, mean=mean, low=mean - half, high=mean + half)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the rows that are there, (rows, points) to (points,); NaN where none is."""
    n, means = (~np.isnan(values)).sum(axis=0), np.full(values.shape[1], np.nan)
    means[n > 0] = np.nansum(values[:, n > 0], axis=0) / n[n > 0]
    return means
