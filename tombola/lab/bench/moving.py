"""(g) A step of sparse training, updates of the mask included, against one of the whole network."""

from collections.abc import Sequence
from dataclasses import replace

from tombola.lab.bench.measure import Measured, job, rounded, step_seconds
from tombola.pieces.dynamics import SET, Dynamics, RigL, Static
from tombola.train.executors import chosen
from tombola.train.training import Training
from tombola.world.world import World

EVERY = 100  # steps between updates, as published
METHODS: dict[str, Dynamics] = {
    "static": Static(),
    "set": SET(every=EVERY, until=1.0),
    "rigl": RigL(every=EVERY, until=1.0),
}


def moving(world: World, densities: Sequence[float] = (0.1, 0.05), *, steps: int = 501) -> Measured:
    """Whole steps on one thread; an update at every hundredth, from the first to the last.

    `ratio` is the whole network on the dense executor over the method. `over_static` is the method
    over a mask that stays, at the same density on the same executor: what updates add, by laying
    out whole tensors, dense gradients (RigL), the exchange, and laying out what is kept. steps: of
    each training; more than 100.
    """
    jobs = {("dense", 1.0, "dense"): job(world, 1.0, "dense", steps)}
    for density in densities:
        for executor in ("dense", "auto"):
            still = job(world, density, executor, steps)
            for name, dynamics in METHODS.items():
                jobs[name, density, executor] = replace(still, dynamics=dynamics)
    named = {"/".join(map(str, key)): one for key, one in jobs.items()}
    taken = dict(zip(jobs, step_seconds(named).values(), strict=True))
    whole = taken["dense", 1.0, "dense"]
    rows = [
        {
            "method": name,
            "density": density,
            "executor": chosen(jobs[name, density, executor]).name,
            "microseconds": round(one * 1e6),
            "ratio": rounded(whole / one),
            "over_static": rounded(one / taken.get(("static", density, executor), one)),
        }
        for (name, density, executor), one in taken.items()
    ]
    return Measured(
        bench="moving",
        world=world.name,
        about=f"a training step on one thread, an update every {EVERY} steps included; ratio: the "
        "whole network, dense, over the method; over_static: the method over a mask that stays",
        rows=tuple(rows),
        notes=_notes(jobs),
    )


def _notes(jobs: dict[tuple[str, float, str], Training]) -> tuple[str, ...]:
    """Which methods have no other executor than the plain one, and why."""
    reasons = {
        f"{name} at density {density:g} is trained densely: {chosen(one).why_dense}"
        for (name, density, executor), one in jobs.items()
        if executor == "auto" and chosen(one).name == "dense"
    }
    return tuple(sorted(reasons))
