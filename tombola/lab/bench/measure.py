"""Times that can be compared: the same work by turns, and the middle of what it took."""

import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from tombola.kernels.best import best_kernel
from tombola.lab.pace import begun, seconds
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.world.numerics import Numerics
from tombola.world.world import World

TURNS = 5
DENSITIES = (1.0, 0.8, 0.51, 0.33, 0.21, 0.1, 0.036, 0.01)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A table of measurements.

    about: what was done, and what the ratios are of. rows: one mapping a row, all with the same
    columns. notes: what follows from them, a line each. table: what `auto` is to choose by, where
    that was measured.
    """

    bench: str
    world: str
    about: str
    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    table: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "bench": self.bench,
            "world": self.world,
            "about": self.about,
            "machine": this_machine(),
            "rows": [dict(row) for row in self.rows],
            "notes": list(self.notes),
            **({} if self.table is None else {"table": self.table}),
        }


def this_machine() -> dict[str, Any]:
    """What a number was measured with."""
    kernel = best_kernel()
    return {
        "processor": _processor(),
        "cores": torch.multiprocessing.cpu_count(),
        "kernel": f"{kernel.name} ({kernel.variant})",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            named = (
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            )
            return next(named, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def medians(works: Mapping[str, Callable[[], object]], turns: int = TURNS) -> dict[str, float]:
    """Seconds of each work: the median of several turns, each of which does every work once.

    By turns, because a machine that slows down then slows all of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            taken[name].append(seconds(work))
    return {name: statistics.median(times) for name, times in taken.items()}


def job(world: World, density: float, executor: str, steps: int, kernel: str = "") -> Training:
    """The first steps of a training under a random mask of this density in every layer, with no
    evaluation on the way."""
    numerics = Numerics(executor=executor, kernel=kernel, threads=world.numerics.threads)
    world = replace(world, numerics=numerics, steps=steps + 1, evaluate_every=steps + 1)
    return begun(world, density, until=steps)


def step_seconds(jobs: Mapping[str, Training], turns: int = TURNS) -> dict[str, float]:
    """Seconds of one step of each training: many steps less one step, over their number."""
    works: dict[str, Callable[[], object]] = {}
    for name, whole in jobs.items():
        works[name] = partial(train, whole)
        works[f"{name}, begun"] = partial(train, replace(whole, until=1))
    for work in works.values():
        work()  # first calls are slow
    taken = medians(works, turns)
    return {
        name: max(taken[name] - taken[f"{name}, begun"], 1e-9) / (whole.until - 1)
        for name, whole in jobs.items()
    }


def steps_for(world: World, wanted: float = 0.3) -> int:
    """About so many dense steps as take `wanted` seconds, 10 to 400."""
    once = job(world, 1.0, "dense", 6)
    return max(10, min(400, round(wanted / step_seconds({"": once}, turns=1)[""])))


def crossing(gains: Mapping[float, float]) -> float:
    """The density up to which gains, by density, are at least 1: on a straight line between those
    measured. 0 where the first is not, the highest density measured where all are.

    >>> crossing({0.25: 1.5, 0.5: 0.5, 0.8: 0.3}), crossing({0.1: 0.9}), crossing({0.1: 1.0})
    (0.375, 0.0, 0.1)
    """
    points = sorted(gains.items())
    if points[0][1] < 1.0:
        return 0.0
    for (low, above), (high, below) in pairwise(points):
        if below < 1.0:
            return low + (high - low) * (above - 1.0) / (above - below)
    return points[-1][0]


def rounded(value: float, digits: int = 3) -> float:
    """A number to so many significant digits, for tables and JSON alike."""
    return float(f"{value:.{digits}g}")
