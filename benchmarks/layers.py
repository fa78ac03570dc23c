"""Layers that keep few weights against torch's dense ones, at the shapes of the 2019 networks.

    python benchmarks/layers.py                       # all of them, several minutes
    python benchmarks/layers.py conv2 --kernel c

For each shape of layer: the time of forward, weight gradient and input gradient (none for a
network's first layer) on kept weights alone, as a ratio to the same of torch on whole tensors, one
thread, medians of alternating passes in one process. Break-even is the density at which the ratio
is 1, between those measured on a straight line. `intensity` is what `break_even_layer` looks up:
multiplications for each number that goes in or comes out, at full density. Without the optimiser,
whose cost falls with density in proportion.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.kernels.best import convolution_named
from tombola.kernels.break_even import intensity
from tombola.kernels.conv import Conv, Image, Window
from tombola.world.networks import NETWORKS

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
SHAPES = ("lenet", "conv2", "conv4", "conv6", "resnet20", "vgg19")
Shape = tuple[Image, tuple[int, ...], Window, int, bool]


def shapes_of(name: str) -> dict[Shape, str]:
    """The different layers of a network, and the name of the first of each."""
    settings = NETWORKS[name]
    image = (1, 28, 28) if name == "lenet" else (3, 32, 32)
    network = settings.build(image, 10)
    found: dict[Shape, str] = {}

    def note(where: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            kept, size = tuple(module.weight.shape), tuple(inputs[0].shape[1:])
            window = Window()
            if isinstance(module, nn.Conv2d):
                window = Window(tuple(module.stride), tuple(module.padding))
            kept, size = (*kept, 1, 1)[:4], (*size, 1, 1)[:3]
            shape = (Image(*size), kept, window, settings.batch_size, bool(found))
            found.setdefault(shape, where)

        return hook

    for where, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(note(where))
    network(torch.zeros(2, *image))
    return found


def ratios(shape: Shape, kernel_name: str, times: int) -> list[float]:
    """Sparse over dense time at each of the densities."""
    image, weight_shape, window, batch, inner = shape
    kernel = convolution_named(kernel_name)
    if kernel is None:
        raise SystemExit(f"This machine has no kernel {kernel_name!r}.")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, *image, generator=generator, requires_grad=inner)
    weight = torch.randn(weight_shape, generator=generator, requires_grad=True)
    bias = torch.zeros(weight_shape[0], requires_grad=True)

    def dense() -> Tensor:
        if (image.height, image.width) == (1, 1):
            return F.linear(inputs.flatten(1), weight.flatten(1), bias)
        return F.conv2d(inputs, weight, bias, window.stride, window.padding)

    passes: list[Callable[[], Tensor]] = [dense]
    for density in DENSITIES:
        kept = torch.rand(weight_shape, generator=generator) < density
        conv = Conv(kept.numpy(), image, window)
        values = weight.detach()[kept].requires_grad_(True)
        passes.append(lambda conv=conv, values=values: kernel.apply(conv, inputs, values, bias))
    delta = torch.randn(dense().shape, generator=generator)
    taken: list[list[float]] = [[] for _ in passes]
    for _ in range(times + 1):
        for own, forward in zip(taken, passes, strict=True):
            began = time.process_time()
            outputs = forward()
            outputs.backward(delta.reshape(outputs.shape))
            own.append(time.process_time() - began)
    first, *others = (statistics.median(own[1:]) for own in taken)
    return [other / first for other in others]


def crossing(found: list[float]) -> float:
    """The density at which the ratio is 1; 0 or 1 where it always or never is above."""
    points = [(d, r) for d, r in zip(DENSITIES, found, strict=True)]
    if points[0][1] <= 1.0:
        (d2, r2), (d1, r1) = points[:2]
        return min(1.0, d2 + (1.0 - r2) * (d2 - d1) / max(r2 - r1, 1e-9))
    for (d2, r2), (d1, r1) in pairwise(points):
        if r1 <= 1.0:
            return d1 + (1.0 - r1) * (d2 - d1) / (r2 - r1)
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(SHAPES)}; default: all.")
    parser.add_argument("--kernel", default="c", help="c, c plain or torch.")
    parser.add_argument("--times", type=int, default=7, help="passes of each.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = " | ".join(f"{density:g}" for density in DENSITIES)
    print(f"| layer | weight | image | batch | intensity | {columns} | break-even |")
    print("| --- " * (6 + len(DENSITIES)) + "|")
    for network in options.networks or SHAPES:
        for shape, where in shapes_of(network).items():
            image, weight, window, batch, _ = shape
            found = ratios(shape, options.kernel, options.times)
            size = "x".join(map(str, image)) + ("" if window.stride == (1, 1) else " /2")
            cells = " | ".join(f"{ratio:.2f}" for ratio in found)
            print(
                f"| {network} {where} | {'x'.join(map(str, weight))} | {size} | {batch} "
                f"| {intensity(weight, image, window.stride):.0f} | {cells} "
                f"| {crossing(found):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
