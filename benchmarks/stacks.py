"""Trainings advanced together against the same ones after each other: time and bits.

    python benchmarks/stacks.py                   # a minute or two
    python benchmarks/stacks.py --widths 4 16 --steps 200

`ratio` is the time of the dense executor over that of one stack, for as many trainings of one
network as the stack is wide, medians of alternating runs; above 1 the stack pays. Half of all
weights are cut. `bits`: `held`, or `alone` where trainings would have changed one another's and so
were not stacked, or `dense` where the executor does not serve the network. Random data of each
network's shape: the time of a step does not depend on what is learnt.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from tombola.lab.pace import begun, seconds
from tombola.train.executors import chosen
from tombola.train.executors.stacked import NAME, independent
from tombola.train.loop import start_of, train
from tombola.train.together import Asked, train_together
from tombola.train.training import Training
from tombola.values.rng import stream
from tombola.world.models import ConvNet, LeNet
from tombola.world.numerics import Numerics
from tombola.world.optimiser import Adam
from tombola.world.world import World

TIMES = 5


def tiny() -> nn.Module:
    return LeNet(64, 32, 16, 16)


def digits() -> nn.Module:
    return LeNet(64, 300, 100, 10)


def lenet() -> nn.Module:
    return LeNet(784, 300, 100, 10)


def small_convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def conv2() -> nn.Module:
    return ConvNet((64,), (256, 256), image=(3, 32, 32), classes=10, dropout=0.0)


# network, shape of an example, and by how much fewer steps it is timed for
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "64-32-16-16": (tiny, (64,), 1),
    "64-300-100-10 (digits)": (digits, (64,), 1),
    "784-300-100-10 (LeNet)": (lenet, (784,), 4),
    "8 filters, 8 x 8": (small_convolution, (1, 8, 8), 2),
    "Conv-2": (conv2, (3, 32, 32), 50),
}


def world_of(model: Callable[[], nn.Module], shape: tuple[int, ...], executor: str) -> World:
    draw = stream(0, "benchmark")
    inputs = torch.randn(600, *shape, generator=draw)
    targets = torch.randint(10, (600,), generator=draw)
    return World(
        model=model,
        train=(inputs, targets),
        validation=(inputs[:60], targets[:60]),
        test=(inputs[:60], targets[:60]),
        steps=10**6,
        batch_size=60,
        optimiser=Adam(lr=1e-3),
        evaluate_every=10**6,
        numerics=Numerics(executor=executor),
    )


def bits_of(group: list[Training]) -> str:
    starts, choice = [start_of(one) for one in group], chosen(group[0])
    if choice.name != NAME:
        return choice.name
    held = independent(group, starts, [None] * len(group), choice.links)
    return "held" if held else "alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 8, 16])
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | together | dense, us a step | ratio | bits |")
    print("| --- | --- | --- | --- | --- |")
    for name, (model, shape, fewer) in NETWORKS.items():
        steps = max(2, options.steps // fewer)
        plain, together = (world_of(model, shape, kind) for kind in ("dense", "stacked"))
        for width in options.widths:
            group = [begun(together, 0.5, until=steps, seed=seed) for seed in range(width)]
            alone = [replace(one, world=plain) for one in group]
            bits = bits_of(group)
            ours, theirs = [], []
            for _ in range(TIMES if bits == "held" else 1):
                asked = [Asked(training=one) for one in group]
                ours.append(seconds(lambda asked=asked: train_together(asked)))
                theirs.append(seconds(lambda alone=alone: [train(one) for one in alone]))
            dense = statistics.median(theirs)
            print(
                f"| {name} | {width} | {1e6 * dense / steps / width:.0f} "
                f"| {dense / statistics.median(ours):.2f} | {bits} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
