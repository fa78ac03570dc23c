"""The table that `auto` chooses by, measured anew."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from tombola.kernels.best import NAMES, kernel_named
from tombola.lab.bench.layers import Shape, floored, gains_of, limits, shapes_of
from tombola.lab.bench.measure import Measured, crossing, job, rounded, step_seconds, steps_for
from tombola.values.rng import stream
from tombola.world.models.lenet import LeNet
from tombola.world.networks import NETWORKS
from tombola.world.optimiser import Adam
from tombola.world.world import World

# Weights up to which a row of the table serves, and the chain that stands for them.
CHAINS = {
    60_000: (64, 300, 100, 10),
    300_000: (784, 300, 100, 10),
    3_000_000: (784, 2_000, 500, 10),
}
DENSITIES = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05)
# Least intensities of rows: below the first, first convolutions and output layers never paid.
INTENSITIES = {"linear": (70.0, 200.0), "conv": (45.0, 280.0)}
OF_LAYERS = ("lenet", "conv2", "conv4", "conv6", "resnet20", "vgg19")
EXAMPLES = 512


def auto() -> Measured:
    """Break-even of every kernel of this machine: for whole chains by their size, and for single
    layers by kind and intensity. Kernels that it lacks have no rows in the table."""
    kernels = [name for name in NAMES if name != "torch" and kernel_named(name) is not None]
    chains: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    alone: dict[str, Mapping[str, list[list[float]]]] = {
        name: {kind: [] for kind in INTENSITIES} for name in NAMES
    }
    rows = []
    for most, widths in CHAINS.items():
        for name, at in chain_break_evens(chain_world(widths), kernels).items():
            chains[name].append([most, floored(at)])
            rows.append(_row(name, "chain " + "-".join(map(str, widths)), at))
    shapes = dict(layer_shapes())
    for name in kernels:
        if name == "numba":
            continue  # it has no loops for layers
        found = {shape: crossing(gains_of(shape, name)) for shape in shapes}
        alone[name] = limits(found, INTENSITIES)
        rows += [_row(name, shapes[shape], at) for shape, at in found.items()]
    return Measured(
        bench="auto",
        world="networks of 2019, with random data",
        about="the density up to which a kernel is faster than dense",
        rows=tuple(rows),
        notes=("The table rounds down to a twentieth; layers of a kind stand for one another.",),
        table={"chains": chains, "layers": alone},
    )


def _row(kernel: str, what: str, at: float) -> dict[str, Any]:
    return {"kernel": kernel, "what": what, "break-even": rounded(at, 2)}


def chain_world(widths: tuple[int, ...]) -> World:
    """A chain on random data, as LeNet-300-100 is trained on MNIST."""
    draw = stream(0, "bench", "auto")
    examples = torch.rand(EXAMPLES, widths[0], generator=draw)
    classes = torch.randint(widths[-1], (EXAMPLES,), generator=draw)
    return World(
        model=partial(LeNet, *widths),
        train=(examples, classes),
        test=(examples[:60], classes[:60]),
        steps=1_000,
        batch_size=60,
        optimiser=Adam(lr=1.2e-3),
    )


def chain_break_evens(world: World, kernels: list[str]) -> dict[str, float]:
    """By kernel; whole training steps on one thread."""
    steps, gains = steps_for(world), {name: dict[float, float]() for name in kernels}
    for density in DENSITIES:
        jobs = {"dense": job(world, density, "dense", steps)}
        jobs |= {name: job(world, density, "sparse", steps, kernel=name) for name in kernels}
        taken = step_seconds(jobs, turns=3)
        for name in kernels:
            gains[name][density] = taken["dense"] / taken[name]
    return {name: crossing(of) for name, of in gains.items()}


def layer_shapes() -> Iterator[tuple[Shape, str]]:
    """The different layers of the networks of 2019 that a row may be about, and where they stand
    first."""
    seen: set[Shape] = set()
    for name in OF_LAYERS:
        settings = NETWORKS[name]
        image = (1, 28, 28) if name == "lenet" else (3, 32, 32)
        examples, classes = torch.zeros(256, *image), torch.arange(256) % 10
        world = replace(
            chain_world((4, 10)),
            model=partial(settings.build, image, 10),
            train=(examples, classes),
            test=(examples[:8], classes[:8]),
            validation=None,
            batch_size=settings.batch_size,
        )
        for where, shape in shapes_of(world).items():
            if shape not in seen and shape.intensity >= INTENSITIES[shape.kind][0]:
                seen.add(shape)
                yield shape, f"{name} {where}"
