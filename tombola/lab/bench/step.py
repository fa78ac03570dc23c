"""(a) One training step against density, for each executor that serves."""

from collections.abc import Sequence

from tombola.lab.bench.measure import (
    DENSITIES,
    Measured,
    crossing,
    job,
    rounded,
    step_seconds,
    steps_for,
)
from tombola.train.executors import chosen
from tombola.world.numerics import EXECUTORS
from tombola.world.world import World


def step(world: World, densities: Sequence[float] = DENSITIES) -> Measured:
    """Whole steps: data, forward, backward, optimiser and bookkeeping, on one thread.

    `ratio` is dense over the executor, at the same density. Break-even is where they are equal, on
    a straight line between the densities measured. `auto` says what it would choose.
    """
    steps, rows = steps_for(world), []
    others = [name for name in EXECUTORS if name not in ("auto", "dense")]
    for density in densities:
        jobs = {name: job(world, density, name, steps) for name in ("dense", *others)}
        jobs = {n: j for n, j in jobs.items() if n == "dense" or chosen(j).name != "dense"}
        taken = step_seconds(jobs)
        auto = chosen(job(world, density, "auto", steps)).name
        for name, one in taken.items():
            rows.append(
                {
                    "density": density,
                    "executor": chosen(jobs[name]).name,
                    "microseconds": round(one * 1e6),
                    "ratio": rounded(taken["dense"] / one),
                    "auto": "taken" if chosen(jobs[name]).name == auto else "",
                }
            )
    return Measured(
        bench="step",
        world=world.name,
        about="a whole training step on one thread; ratio: dense over the executor",
        rows=tuple(rows),
        notes=tuple(_notes(world, rows)),
    )


def _notes(world: World, rows: list[dict[str, object]]) -> list[str]:
    served = sorted({str(row["executor"]) for row in rows} - {"dense"})
    if not served:
        why = chosen(job(world, 0.1, "sparse", 10)).why_dense
        return [f"no other executor serves {world.name}: {why}"]
    return [f"{name}: {_break_even(name, rows)}" for name in served]


def _break_even(name: str, rows: list[dict[str, object]]) -> str:
    of = [row for row in rows if row["executor"] == name]
    gains = {float(str(row["density"])): float(str(row["ratio"])) for row in of}
    at = crossing(gains)
    if at == max(gains):
        return f"faster than dense at every density up to {at:g}"
    return f"break-even at density {at:.2f}" if at else "slower than dense at the lowest density"
