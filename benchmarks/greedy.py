"""Greedy selection of neurons from a wide two-layer network on MNIST: time and memory.

    python benchmarks/greedy.py                         # 200 of 10,000 neurons, 5,000 examples
    python benchmarks/greedy.py --neurons 20000 --select 500 --threads 1

Times the whole rule as a recipe applies it (activations, inner products, selection), on a network
trained for a few steps, and says how much memory the process had at its peak beyond that before.
The activations are examples x neurons float32, and are in memory twice while both sides of the cut
are compared.
"""

import argparse
import resource
import time
from functools import partial

import torch

from tombola.pieces.greedy import Aim, GreedySelection
from tombola.pieces.schedule import Target
from tombola.pieces.score import Snapshot
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.catalogue import of_length_one
from tombola.world.data.mnist import mnist
from tombola.world.models import MeanField
from tombola.world.objective import SquaredError
from tombola.world.optimiser import SGD
from tombola.world.probe import NetworkProbe
from tombola.world.world import World


def wide(neurons: int, examples: int, steps: int) -> World:
    """MNIST under a network of so many neurons in one layer."""
    parts = {name: of_length_one(split) for name, split in mnist(None).items()}
    return World(
        name=f"mnist-wide-{neurons}",
        model=partial(MeanField, 784, neurons, 10),
        train=parts["train"].part(torch.arange(examples)),
        validation=parts["validation"],
        test=parts["test"],
        objective=SquaredError(),
        steps=steps,
        batch_size=128,
        optimiser=SGD(lr=float(neurons)),
        evaluate_every=steps,
    )


def peak() -> float:
    """The most memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=10_000)
    parser.add_argument("--select", type=int, default=200)
    parser.add_argument("--examples", type=int, default=5_000)
    parser.add_argument("--steps", type=int, default=20, help="of training before the selection.")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = wide(options.neurons, options.examples, options.steps)
    init = Init(world, 0).run(NoDesk()).params
    job = Train(world, 0, Point(init, None, 0), FULL, world.steps, world.objective)
    params = job.run(NoDesk()).params.load()
    at = Snapshot(start=init.load(), end=params, mask=FULL, layers=world.layers)
    target = Target(round=1, density=options.select / options.neurons)
    for aim in Aim:
        rule = GreedySelection(aim=aim, examples=options.examples)
        before, began, worked = peak(), time.perf_counter(), time.process_time()
        with torch.no_grad():
            cut = rule.cut(at, NetworkProbe(world, 0), target)
        seconds, work = time.perf_counter() - began, time.process_time() - worked
        assert cut.units is not None
        kept = sum(int(units.sum()) for _, units in cut.units.items())
        more = (peak() - before) / 1e9
        print(
            f"{kept} of {options.neurons:,} neurons to match {aim.value}: {seconds:.1f} s, "
            f"{work:.1f} s of processor time on {options.threads} threads; peak "
            f"{peak() / 1e9:.2f} GB, {more:.2f} GB more than before",
            flush=True,
        )


if __name__ == "__main__":
    main()
