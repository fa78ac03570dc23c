"""(d) What share of the machine's own rate a step reaches."""

import torch

from tombola.lab.bench.measure import (
    DENSITIES,
    Measured,
    job,
    medians,
    rounded,
    step_seconds,
    steps_for,
)
from tombola.train.executors import chosen
from tombola.world.work import multiplications
from tombola.world.world import World

SIDE = 1_024
BYTES = 1 << 28


def machine(world: World, densities: tuple[float, ...] = DENSITIES) -> Measured:
    """Arithmetic on kept weights a second, over the rate of a large matrix product on one thread.

    A step counts three products of each kept weight with each example it meets (forward, gradient
    of the weight, gradient of the input; the first layer has no third), two operations each.
    """
    torch.set_num_threads(1)
    products, copied = _matrix_rate(), _memory_rate()
    steps, rows = steps_for(world), []
    for density in densities:
        jobs = {name: job(world, density, name, steps) for name in ("dense", "auto")}
        taken = step_seconds(jobs, turns=3)
        kept = _operations(world, density)
        for name, one in taken.items():
            if name == "auto" and chosen(jobs[name]).name == "dense":
                continue
            rate = kept / one / 1e9
            rows.append(
                {
                    "density": density,
                    "executor": chosen(jobs[name]).name,
                    "GFLOP/s on kept weights": rounded(rate),
                    "of the matrix rate": rounded(rate / products, 2),
                }
            )
    return Measured(
        bench="machine",
        world=world.name,
        about=f"one thread; {SIDE} x {SIDE} product {products:.0f} GFLOP/s, memory "
        f"{copied:.1f} GB/s read and written",
        rows=tuple(rows),
    )


def _operations(world: World, density: float) -> float:
    """Of one step, on kept weights."""
    by_layer = multiplications(world)
    names = [layer.name for layer in world.layers]
    each = [by_layer[name] for name in names if name in by_layer]
    thrice = 3 * sum(each) - (each[0] if each else 0)
    return float(2.0 * density * thrice * world.batch_size)


def _matrix_rate() -> float:
    """GFLOP/s."""
    left, right = torch.randn(2, SIDE, SIDE)
    out = torch.empty(SIDE, SIDE)
    taken = medians({"": lambda: torch.mm(left, right, out=out)}, turns=9)[""]
    return 2.0 * SIDE**3 / taken / 1e9


def _memory_rate() -> float:
    """GB/s, read and written together."""
    source, target = torch.zeros(2, BYTES // 8)
    taken = medians({"": lambda: target.copy_(source)}, turns=5)[""]
    return 2.0 * 4.0 * float(source.numel()) / float(taken) / 1e9
