"""(e) Peak memory of a process that trains, against the least it could do with."""

import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection

import torch

from tombola.lab.bench.measure import Measured, job, rounded
from tombola.lab.study import find
from tombola.pieces.schedule import LayerRates
from tombola.recipes.imp import IMP
from tombola.train.loop import train
from tombola.world.batch import leaves
from tombola.world.world import World, initial_params

DENSITIES = (1.0, 0.1, 0.01)
SEEDS = (1, 8)  # of a study in one process
ROUNDS = 3
MEGABYTE = 1e6


def memory(world: World, steps: int = 50) -> Measured:
    """Megabytes that a training adds to a process that already holds torch and the data.

    `least` is what the network itself takes: weights, gradients, the two averages of Adam, and the
    copy of the best state.
    """
    weights = sum(t.numel() * t.element_size() for t in initial_params(world, 0).values())
    held = sum(
        leaf.numel() * leaf.element_size()
        for split in (world.train, world.validation, world.test)
        for leaf in (*leaves(split.inputs), *leaves(split.targets))
    )
    rows = []

    def note(what: str, density: float | str, work: Callable[[], object]) -> None:
        before, after = _peak(work)
        rows.append(
            {
                "density": density,
                "what": what,
                "MB at its peak": round(after / MEGABYTE),
                "MB added": round((after - before) / MEGABYTE),
                "MB of data": round(held / MEGABYTE),
                "least MB": rounded(5 * weights / MEGABYTE),
            }
        )

    for density in DENSITIES:
        for name in ("dense", "auto"):
            note(f"a training, {name}", density, partial(train, job(world, density, name, steps)))
    for seeds in SEEDS:
        trainings = seeds * (1 + 2 * ROUNDS)
        note(f"a study of {trainings} trainings", "all", partial(_study, world, seeds, steps))
    return Measured(
        bench="memory",
        world=world.name,
        about=f"a forked process; trainings of {steps} steps, evaluated once or twice; studies of "
        f"{ROUNDS} rounds, ticket and reinit at all of them, {SEEDS[0]} seed and {SEEDS[1]}",
        rows=tuple(rows),
    )


def _study(world: World, seeds: int, steps: int) -> None:
    recipe = replace(IMP, schedule=LayerRates(rounds=ROUNDS))
    short = replace(
        world,
        steps=steps,
        evaluate_every=steps,
        judged_density=recipe.targets(world)[-1].density,
    )
    with tempfile.TemporaryDirectory() as folder:
        arms = ("dense", "ticket", "reinit")
        find(recipe, short, seeds=seeds, arms=arms, controls_at="all", jobs=1, store=folder)


def _peak(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes before and at the peak, in a process of its own."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(work, there))
    child.start()
    there.close()
    try:
        before, after = here.recv()
    finally:
        child.join()
    return before, after


def _child(work: Callable[[], object], pipe: Connection) -> None:
    torch.set_num_threads(1)
    before = _resident()
    work()
    pipe.send((before, max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024)))


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
