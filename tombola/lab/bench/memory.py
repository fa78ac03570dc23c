"""(e) Peak memory of a process that trains, against the least it could do with."""

import multiprocessing
import resource
from multiprocessing.connection import Connection

import torch

from tombola.lab.bench.measure import Measured, job, rounded
from tombola.train.loop import train
from tombola.world.batch import leaves
from tombola.world.world import World, initial_params

DENSITIES = (1.0, 0.1, 0.01)
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
    for density in DENSITIES:
        for name in ("dense", "auto"):
            before, after = _peak(world, density, name, steps)
            rows.append(
                {
                    "density": density,
                    "executor": name,
                    "MB at its peak": round(after / MEGABYTE),
                    "MB added by training": round((after - before) / MEGABYTE),
                    "MB of data": round(held / MEGABYTE),
                    "least MB": rounded(5 * weights / MEGABYTE),
                }
            )
    return Measured(
        bench="memory",
        world=world.name,
        about="a forked process that makes some steps and an evaluation",
        rows=tuple(rows),
    )


def _peak(world: World, density: float, executor: str, steps: int) -> tuple[int, int]:
    """Bytes before and at the peak, in a process of its own."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(world, density, executor, steps, there)
    )
    child.start()
    there.close()
    try:
        before, after = here.recv()
    finally:
        child.join()
    return before, after


def _child(world: World, density: float, executor: str, steps: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    before = _resident()
    train(job(world, density, executor, steps))
    pipe.send((before, max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024)))


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
