"""Single layers on kept weights alone, against torch's dense ones, at the shapes of a network."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.kernels.best import NAMES, best_kernel, convolution_named
from tombola.kernels.break_even import intensity
from tombola.kernels.conv import Conv, Convolution, Image, Window
from tombola.lab.bench.measure import Measured, crossing, rounded
from tombola.train.executors.kept import layers_of, window_of
from tombola.train.executors.layered import images_of
from tombola.values.rng import stream
from tombola.world.world import World

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
PASSES = 7


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a layer's cost depends on. weight: (outputs, channels, height, width). inner: whether a
    gradient of its inputs is wanted (not of a network's first layer)."""

    image: Image
    weight: tuple[int, ...]
    window: Window
    batch: int
    inner: bool

    @property
    def kind(self) -> str:
        """As the table of break-evens calls it."""
        pixels = self.image.height * self.image.width
        return "linear" if pixels == 1 else "conv"

    @property
    def intensity(self) -> float:
        image = (self.weight[1], self.image.height, self.image.width)
        return intensity(self.weight, image, self.window.stride)


def layers(world: World) -> Measured:
    """Forward, weight gradient and input gradient on one thread, without the optimiser, whose cost
    falls with density in proportion. At each density, dense over the kernel; `intensity` is what
    `auto` looks up: multiplications for each number that goes in or comes out, at full density."""
    name, rows = best_kernel().name, []
    for where, shape in shapes_of(world).items():
        gains = gains_of(shape, name)
        cells = {f"at {density:g}": rounded(gain) for density, gain in gains.items()}
        rows.append(
            {
                "layer": where.removesuffix(".weight"),
                "weight": "x".join(map(str, shape.weight)),
                "intensity": round(shape.intensity),
                **cells,
                "break-even": rounded(crossing(gains), 2),
            }
        )
    return Measured(
        bench="layers",
        world=world.name,
        about=f"a layer's forward and gradients, batches of {world.batch_size}, one thread; at a "
        f"density: dense over the kernel {name!r}",
        rows=tuple(rows),
    )


def shapes_of(world: World) -> dict[str, Shape]:
    """The different layers of a network that kernels can serve, by the name of the first one."""
    network = world.new_network(0).eval()
    images = images_of(network, world.batch(world.train, torch.arange(2)).inputs)
    found: dict[Shape, str] = {}
    for name, layer, _ in layers_of(network):
        if name in images:
            window = window_of(layer) if isinstance(layer, nn.Conv2d) else Window()
            shape = Shape(
                image=images[name],
                weight=(*layer.weight.shape, 1, 1)[:4],
                window=window,
                batch=world.batch_size,
                inner=bool(found),
            )
            found.setdefault(shape, name)
    return {name: shape for shape, name in found.items()}


def gains_of(
    shape: Shape, kernel_name: str, densities: Sequence[float] = DENSITIES
) -> dict[float, float]:
    """Dense over sparse time by density: medians of alternating passes, of processor time."""
    assert kernel_name in NAMES
    kernel = convolution_named(kernel_name)
    assert kernel is not None
    taken: dict[float | None, list[float]] = {}
    works = dict(_passes(shape, kernel, densities))
    for _ in range(PASSES + 1):
        for density, forward in works.items():
            began = time.process_time()
            outputs = forward()
            outputs.backward(torch.ones_like(outputs))
            taken.setdefault(density, []).append(time.process_time() - began)
    middle = {density: statistics.median(times[1:]) for density, times in taken.items()}
    return {density: middle[None] / middle[density] for density in densities}


def _passes(
    shape: Shape, kernel: Convolution, densities: Sequence[float]
) -> Iterator[tuple[float | None, Callable[[], Tensor]]]:
    """The forward pass of the dense layer, under None, and of kept weights by density."""
    generator = stream(0, "bench", shape.kind)
    image = (shape.image.channels, shape.image.height, shape.image.width)
    inputs = torch.randn(shape.batch, *image, generator=generator, requires_grad=shape.inner)
    weight = torch.randn(shape.weight, generator=generator, requires_grad=True)
    bias = torch.zeros(shape.weight[0], requires_grad=True)
    window = shape.window

    def dense() -> Tensor:
        if shape.kind == "linear":
            return F.linear(inputs.flatten(1), weight.flatten(1), bias)
        return F.conv2d(inputs, weight, bias, window.stride, window.padding)

    yield None, dense
    for density in densities:
        kept = torch.rand(shape.weight, generator=generator) < density
        conv = Conv(kept.numpy(), shape.image, window)
        values = weight.detach()[kept].requires_grad_(True)
        yield density, partial(kernel.apply, conv, inputs, values, bias)


Found = Mapping[Shape, float]


def limits(found: Found, steps: Mapping[str, Sequence[float]]) -> dict[str, list[list[float]]]:
    """Rows of the table that `auto` chooses by: for each kind of layer, the least break-even among
    layers from one intensity to the next, rounded down to a twentieth; none where it is 0.

    found: break-even of each layer measured. steps: least intensities, ascending, by kind.
    """
    table: dict[str, list[list[float]]] = {}
    for kind, bounds in steps.items():
        table[kind] = []
        for least, beyond in zip(bounds, (*bounds[1:], float("inf")), strict=True):
            own = [
                at for s, at in found.items() if s.kind == kind and least <= s.intensity < beyond
            ]
            if own and floored(min(own)):
                table[kind].append([least, floored(min(own))])
    return table


def floored(density: float) -> float:
    """Rounded down to a twentieth.

    >>> floored(0.34), floored(0.35), floored(0.04), floored(1.0)
    (0.3, 0.35, 0.0, 1.0)
    """
    return int(density * 20 + 1e-9) / 20
