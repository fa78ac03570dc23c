"""Trainings on a card: time and kernels of a step, and whether they are the processor's.

    python benchmarks/gpu.py                      # all settings, some minutes
    python benchmarks/gpu.py --device cuda:1 --steps 200

For the dense executor and for stacks of 1, 8 and 16, in float32 and mixed precision, and with
channels innermost: microseconds a step and training (medians), kernels started a step (counted by
torch.profiler), and the largest difference of a weight from the processor's after ten steps, as a
fraction of the largest weight. Exit status 1 where float32 differs by more than `--allow`, where a
second run differs from the first in any bit, or where a stack does not hold its bits (`alone`).

Then what a shipped network of the form 2:4 gains: microseconds of a pass in half precision, dense
and by the card's sparse products, and how far its outputs are from those of the processor in
float32, over the largest; status 1 where that is more than a hundredth.

Without a card it says so and ends with status 0. Not run on one yet.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tombola.kernels.infer import Rows
from tombola.lab.pace import begun
from tombola.out.ship.chain import SparseNetwork
from tombola.train.executors import chosen
from tombola.train.executors.stacked import NAME, independent
from tombola.train.leg import Leg
from tombola.train.loop import start_of, train
from tombola.train.together import Asked, train_together
from tombola.train.training import Training
from tombola.values.rng import stream
from tombola.world.models import ConvNet, LeNet, ResNet
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD
from tombola.world.prepare import FlipAndCrop, InTurn, Standardised
from tombola.world.world import World

TIMES, COMPARED = 5, 10


def lenet() -> nn.Module:
    return LeNet(3 * 32 * 32, 300, 100, 10)


def conv2() -> nn.Module:
    return ConvNet((64,), (256, 256), image=(3, 32, 32), classes=10, dropout=0.0)


def resnet20() -> nn.Module:
    return ResNet((16, 32, 64), channels=3, classes=10)


NETWORKS = {"LeNet-300-100": lenet, "Conv-2": conv2, "ResNet-20": resnet20}


def world_of(name: str, numerics: Numerics) -> World:
    """CIFAR's shapes and augmentation on random bytes; evaluated at the end alone."""
    draw = stream(0, "benchmark")
    images = torch.randint(256, (4_096, 3, 32, 32), generator=draw, dtype=torch.uint8)
    targets = torch.randint(10, (4_096,), generator=draw)
    few = (images[:128], targets[:128])
    grey = Standardised(mean=(0.5,) * 3, std=(0.25,) * 3)
    return World(
        model=NETWORKS[name],
        train=(images, targets),
        validation=few,
        test=few,
        steps=10**6,
        batch_size=128,
        optimiser=SGD(lr=0.01, momentum=0.9),
        prepare=InTurn((FlipAndCrop(), grey)),
        evaluate_every=10**6,
        numerics=numerics,
    )


def trainings(world: World, count: int) -> list[Training]:
    return [begun(world, 0.5, until=COMPARED, seed=seed) for seed in range(count)]


def run(group: Sequence[Training], until: int) -> list[Leg]:
    return train_together([Asked(training=replace(one, until=until)) for one in group])


def seconds(group: Sequence[Training], until: int) -> float:
    """Of a training to that step; the end of it waits for the card."""
    began = time.perf_counter()
    run(group, until)
    return time.perf_counter() - began


def per_step(group: Sequence[Training], steps: int) -> float:
    """Seconds a step and training, without what it takes to start."""
    run(group, 2)
    times = [seconds(group, 1 + steps) - seconds(group, 1) for _ in range(TIMES)]
    return statistics.median(times) / steps / len(group)


def kernels(group: Sequence[Training], steps: int) -> float:
    """Started for a step of the whole group."""

    def started(until: int) -> int:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            run(group, until)
        return sum(
            event.device_type == torch.autograd.DeviceType.CUDA for event in profiled.events()
        )

    return (started(1 + steps) - started(1)) / steps


def difference(one: Leg, other: Leg) -> float:
    largest = max(float(tensor.abs().max()) for tensor in other.coords.values())
    apart = (float((one.coords[n] - t).abs().max()) for n, t in other.coords.items())
    return max(apart) / largest


def holds(group: list[Training]) -> bool:
    choice = chosen(group[0])
    if choice.name != NAME:
        return False
    starts = [start_of(one) for one in group]
    return independent(group, starts, [None] * len(group), choice.links)


def two_of_four(device: str) -> bool:
    """Prints a table; whether the outputs are right."""
    print("| 2:4, layers | batch | dense us | sparse us | ratio | apart |")
    print("| --- | --- | --- | --- | --- | --- |")
    right = True
    for width in (1_024, 4_096, 8_192):
        weights = [torch.randn(width, width) / width**0.5 for _ in range(3)]
        layers = []
        for weight in weights:
            places = torch.rand(width, width // 4, 4).argsort(dim=2)
            weight *= (places < 2).reshape(width, width)
            kept = weight != 0
            row = torch.cat([torch.zeros(1, dtype=torch.long), kept.sum(dim=1).cumsum(dim=0)])
            parts = (row.int(), kept.nonzero()[:, 1].int(), weight[kept])
            layers.append(Rows(width, *(part.numpy() for part in parts), None, relu=True))
        sparse = SparseNetwork(layers, "2:4")
        dense = [weight.to(device, torch.float16) for weight in weights]
        for batch in (64, 1_024, 8_192):
            inputs = torch.randn(batch, width)
            wanted = inputs
            for weight in weights:
                wanted = (wanted @ weight.T).relu()
            on_card = inputs.to(device)
            apart = float((sparse(on_card).cpu() - wanted).abs().max() / wanted.abs().max())
            right &= apart < 1e-2
            one, two = waited(partial(passed, dense), on_card), waited(sparse, on_card)
            times = f"{one:.0f} | {two:.0f} | {one / two:.2f}"
            print(f"| 3 of {width} | {batch} | {times} | {apart:.1e} |", flush=True)
    return right


def passed(weights: Sequence[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    hidden = inputs.half()
    for weight in weights:
        hidden = torch.nn.functional.linear(hidden, weight).relu()
    return hidden.float()


def waited(work: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> float:
    """Microseconds of a call: the median of some turns of ten, each waited for."""
    taken = []
    for _ in range(TIMES + 1):  # the first one warms up
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(10):
            work(inputs)
        torch.cuda.synchronize()
        taken.append(1e5 * (time.perf_counter() - began))
    return statistics.median(taken[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--allow", type=float, default=1e-3, help="largest difference in float32")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.")
        return 0
    print(f"{torch.cuda.get_device_name(options.device)}, torch {torch.__version__}")
    print(
        "| network | executor | together | numerics | us a step | kernels a step | apart | bits |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    bad = False
    settings = [
        (kind, width, dtype, layout)
        for kind, width in (("dense", 1), (NAME, 1), (NAME, 8), (NAME, 16))
        for dtype, layout in (("float32", False), ("mixed-bfloat16", False), ("float32", True))
    ]
    for name in NETWORKS:
        plain = train(trainings(world_of(name, Numerics(executor="dense")), 1)[0])
        for kind, width, dtype, layout in settings:
            numerics = Numerics(
                executor=kind, dtype=dtype, channels_last=layout, device=options.device
            )
            group = trainings(world_of(name, numerics), width)
            first, again = run(group, COMPARED), run(group, COMPARED)
            apart = difference(first[0], plain)
            same = all(
                one.coords.digest == two.coords.digest
                for one, two in zip(first, again, strict=True)
            )
            held = width == 1 or holds(group)
            wrong = not (same and held) or (dtype == "float32" and not apart <= options.allow)
            bad |= wrong
            print(
                f"| {name} | {first[0].executor} | {width} "
                f"| {dtype}{', channels last' if layout else ''} "
                f"| {1e6 * per_step(group, options.steps):.0f} | {kernels(group, 20):.0f} "
                f"| {apart:.1e} | {'same' if same else 'differ'}{'' if held else ', alone'} |",
                flush=True,
            )
    with torch.cuda.device(options.device):
        bad |= not two_of_four(options.device)
    print("FAIL" if bad else "PASS")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
