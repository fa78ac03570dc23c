"""Training on the units that can matter, against the plain executor."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from tombola.testing import toy_world
from tombola.train.executors import chosen
from tombola.train.executors.dense import Dense
from tombola.train.executors.executor import Executor, NotServedError, Step
from tombola.train.executors.units import parts_of, stages_of
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.rng import derive, stream
from tombola.world.models import VGG, ConvNet, LeNet, ResNet
from tombola.world.optimiser import SGD, Adam, AdamW, Optimiser
from tombola.world.world import Numerics, World, initial_params

IMAGE = (3, 8, 8)
DOUBLE = Numerics(executor="compact", dtype="float64")  # rounding hides nothing
MOMENTUM = SGD(lr=0.05, momentum=0.9, weight_decay=1e-2)


def row() -> nn.Module:
    """Bias under normalisation, other borders than zeros, an average pool, BatchNorm1d."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(5, 5, 3, stride=2),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=1),
        nn.Flatten(),
        nn.Linear(20, 6, bias=False),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet": lambda: LeNet(192, 6, 5, 3),
    "conv": lambda: ConvNet((4, 5), (6, 5), image=IMAGE, classes=3),
    "dropout": lambda: ConvNet((4,), (6, 5), image=IMAGE, classes=3, dropout=0.5),
    "vgg": lambda: VGG(((4, 5), (5, 4)), classes=3),
    "row": row,
}


def images_world(model: Callable[[], nn.Module], **changes: Any) -> World:
    inputs = torch.randn(300, *IMAGE, generator=stream(0, "images"))
    targets = inputs.mean(dim=(2, 3)).argmax(dim=1)
    parts = {"train": slice(180), "validation": slice(180, 240), "test": slice(240, 300)}
    fields: dict[str, Any] = {name: (inputs[part], targets[part]) for name, part in parts.items()}
    fields |= {"model": model, "thin": model, "optimiser": MOMENTUM}
    return toy_world(**fields | {"numerics": DOUBLE} | changes)


def training(world: World, mask: Mask, **changes: Any) -> Training:
    params = initial_params(world, 3)
    moved = {  # biases and shifts that are not zero, so that fixed units are not
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=stream(8, name))
        for name, tensor in params.items()
        if tensor.dim() == 1 and tensor.is_floating_point() and "running_var" not in name
    }
    fields: dict[str, Any] = {
        "world": world,
        "seed": 3,
        "params": params.replaced(moved),
        "mask": mask,
        "step": 0,
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


def holes(world: World, cut: Iterable[tuple[int, str, int]], density: float = 0.7) -> Mask:
    """Random masks in which some units have no kept input, or no kept output weight.

    cut: layer, "in" or "out", unit of that layer.
    """
    kept = {
        layer.name: torch.rand(layer.shape, generator=stream(5, layer.name)) < density
        for layer in world.layers
    }
    names = list(kept)
    for number, side, unit in cut:
        if side == "in":
            kept[names[number]][unit] = False
        else:
            reader = kept[names[number + 1]]
            each = reader.shape[1] // kept[names[number]].shape[0]
            reader[:, unit * each : (unit + 1) * each] = False
    return Mask(kept)


def pair(job: Training) -> tuple[Executor, Dense]:
    choice = chosen(job)
    assert choice.name == "compact", choice.why_dense
    start = job.parametrisation.coords(job.params, job.mask, job.seed)
    return choice.build(job, start, None), Dense(job, start, None)


def assert_steps_alike(job: Training, count: int = 3) -> None:
    """Up to rounding; names, order and zeros exactly."""
    double = job.world.numerics.dtype == "float64"
    tolerance = 1e-9 if double else 1e-5
    ours, dense = pair(job)
    order = job.world.order(3, 0).split(job.world.batch_size)
    for number in range(count):
        step = Step(number, order[number], 1.0, derive(3, "noise", number))
        ours.advance([step])
        dense.advance([step])
    one, other = ours.standing(), dense.standing()
    for mine, theirs in ((one.coords, other.coords), (one.slots, other.slots)):
        assert list(mine) == list(theirs)
        for name, tensor in theirs.items():
            scale = float(tensor.abs().max()) + 1e-3
            torch.testing.assert_close(
                mine[name],
                tensor,
                rtol=0,
                atol=tolerance * scale,
                msg=lambda m, n=name: f"{n}: {m}",
            )
    for name, kept in job.mask.items():
        cut = one.coords[name][~kept]
        assert not cut.any() and not cut.signbit().any()
    measured = ours.measure(job.world.validation)
    assert measured == pytest.approx(dense.measure(job.world.validation), abs=1e-4)


SIDES = [(), ("in",), ("out",), ("in", "out")]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pattern", list(product(SIDES, SIDES)), ids=str)
def test_a_step_is_that_of_dense_with_dead_inputs_and_outputs(
    network: str, pattern: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """One unit in each of two neighbouring layers, read by nothing, fed by nothing, or both."""
    world = images_world(NETWORKS[network])
    cut = [(layer, side, 1) for layer, sides in enumerate(pattern) for side in sides]
    assert_steps_alike(training(world, holes(world, cut)), count=2)


@pytest.mark.parametrize("optimiser", [MOMENTUM, Adam(lr=1e-3), AdamW(lr=1e-2)], ids=repr)
@pytest.mark.parametrize("network", ["lenet", "conv", "dropout", "vgg"])
def test_many_dead_units_move_as_in_dense(network: str, optimiser: Optimiser) -> None:
    world = images_world(NETWORKS[network], optimiser=optimiser)
    layers = range(len(world.layers) - 1)
    cut = [(n, side, unit) for n in layers for side, unit in (("in", 0), ("out", 1), ("in", 2))]
    assert_steps_alike(training(world, holes(world, cut)))


@pytest.mark.parametrize("network", ["lenet", "conv", "dropout"])
def test_single_precision_is_as_good(network: str) -> None:
    world = images_world(NETWORKS[network], numerics=Numerics(executor="compact"))
    assert_steps_alike(training(world, holes(world, [(0, "in", 0), (1, "out", 1)])))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_that_is_cut_in_two_is_no_special_case(network: str) -> None:
    world = images_world(NETWORKS[network])
    for number, layer in enumerate(world.layers[:3]):
        kept = dict(holes(world, ()).items())
        kept[layer.name] = torch.zeros(layer.shape, dtype=torch.bool)
        assert_steps_alike(training(world, Mask(kept)), count=2 if number else 1)


@pytest.mark.parametrize("network", ["conv", "vgg"])
def test_very_few_weights_are_no_special_case(network: str) -> None:
    world = images_world(NETWORKS[network])
    for density in (0.02, 0.1):
        assert_steps_alike(training(world, holes(world, (), density)), count=2)


def test_units_are_really_left_out() -> None:
    network = NETWORKS["conv"]()
    world = images_world(NETWORKS["conv"])
    parts = parts_of(network, torch.zeros(2, *IMAGE))
    mask = holes(world, [(0, "in", 0), (1, "out", 3), (4, "in", 1), (4, "out", 2)], 1.0)
    stages = [s for s in stages_of(network, parts, 3, mask) if s.part.kind == "layer"]
    found = [(s.after.free.tolist(), s.after.fixed.tolist()) for s in stages]
    every = [0, 1, 2, 3, 4]
    assert found[:4] == [([1, 2, 3], [0]), ([0, 1, 2], []), (every, []), (every, [])]
    assert found[4:] == [([0, 3, 4, 5], [1]), (every, []), ([0, 1, 2], [])]


def test_a_training_through_the_loop_says_so() -> None:
    world = images_world(NETWORKS["vgg"], steps=6)
    leg = train(training(world, holes(world, [(0, "in", 0)])))
    assert leg.executor == "compact" and leg.why_dense is None and leg.checks["cut_stays_zero"]


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (lambda: ResNet((4, 4), 1, classes=3), "add is "),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Flatten(), nn.Linear(108, 3)),
            "0 has 3 groups",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.LogSoftmax(dim=1)),
            "LogSoftmax, which units do not pass one by one",
        ),
        (
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(192, 3), nn.BatchNorm1d(3, momentum=None)
            ),
            "2 is a normalisation of an unusual kind",
        ),
        (
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(192, 3), nn.BatchNorm1d(3, momentum=None)
            ),
            "normalisation of an unusual kind",
        ),
        (
            lambda: nn.Sequential(nn.Linear(8, 8), nn.Flatten(), nn.Linear(192, 3)),
            "0 is applied to rows of an example",
        ),
    ],
)
def test_a_network_that_is_no_row_is_left_to_dense_and_the_part_is_named(
    network: Callable[[], nn.Module], text: str
) -> None:
    world = images_world(network)
    choice = chosen(training(world, FULL))
    assert choice.name == "dense" and text in str(choice.why_dense)


def test_layers_used_twice_are_not_served() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(NotServedError, match="beside its layers"):
        parts_of(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(2, 4))
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(NotServedError, match="shares tensors"):
        parts_of(tied, torch.zeros(2, 4))


def test_slots_that_still_move_units_left_out_are_handed_on() -> None:
    """A unit cut off later goes on under momentum, as it does in the plain executor."""
    world = images_world(NETWORKS["lenet"])
    first = training(world, holes(world, ()))
    _, dense = pair(first)
    dense.advance([Step(0, world.order(3, 0)[:20], 1.0, 1)])
    there = dense.standing()
    mask = holes(world, [(0, "out", 1), (1, "in", 2)])
    slots = {
        key: torch.where(mask.of(key.split("/")[1], value.shape), value, 0.0)
        for key, value in there.slots.items()
    }
    on = replace(first, params=mask.apply(there.coords), slots=slots, mask=mask)
    assert_steps_alike(on)
