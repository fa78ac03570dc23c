"""What answers for a given network: the network itself, or its outputs remembered."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tombola.train.given import Live, Remembered, answering, remembered
from tombola.values.rng import stream
from tombola.world.batch import Batch
from tombola.world.distillation import Distillation, Teacher
from tombola.world.models import LeNet
from tombola.world.objective import CrossEntropy
from tombola.world.optimiser import SGD
from tombola.world.prepare import AsIs, FlipAndCrop, InTurn, Prepare, Scaled, Standardised
from tombola.world.world import World


def world(count: int = 50, size: int = 20, **changes: Any) -> World:
    inputs = torch.randn(count + 20, 8, generator=stream(0, "given"))
    targets = torch.arange(count + 20) % 3
    settings = {
        "model": lambda: LeNet(8, 10, 3),
        "train": (inputs[:count], targets[:count]),
        "validation": (inputs[count:], targets[count:]),
        "test": (inputs[count:], targets[count:]),
        "steps": 5,
        "batch_size": size,
        "optimiser": SGD(lr=0.1),
    }
    return World(**{**settings, **changes})


def batches(where: World) -> list[Batch]:
    """Two epochs of the batches that training sees."""
    orders = torch.cat([where.order(0, epoch) for epoch in (0, 1)])
    return [where.batch(where.train, index) for index in orders.split(where.batch_size)]


@pytest.mark.parametrize(("count", "size"), [(50, 20), (40, 20), (21, 20), (20, 20), (50, 1)])
def test_remembered_outputs_are_those_of_the_live_network(count: int, size: int) -> None:
    where = world(count, size)
    network = where.new_network(3).eval()
    kept = remembered(network, where)
    assert kept.outputs.shape == (count, 3)
    for batch in batches(where):
        with torch.no_grad():
            live = network(batch.inputs)
        torch.testing.assert_close(kept.about(batch)(batch.inputs), live, rtol=1e-5, atol=1e-6)


def test_each_example_is_asked_about_once_in_batches_of_one_shape() -> None:
    asked: list[Tensor] = []

    def network(inputs: Tensor) -> Tensor:
        asked.append(inputs)
        return inputs * 2.0

    where = world(50, 20)
    outputs = remembered(network, where).outputs
    assert [len(inputs) for inputs in asked] == [20, 20, 20]
    assert torch.equal(outputs, where.train.inputs * 2.0)


def test_remembering_depends_on_nothing_but_network_and_split() -> None:
    where = world()
    network = where.new_network(3).eval()
    first = remembered(network, where).outputs
    state = torch.get_rng_state()
    assert torch.equal(remembered(network, where).outputs, first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.requires_grad


def test_nested_outputs_are_looked_up_leaf_by_leaf() -> None:
    where = world()
    kept = remembered(lambda inputs: {"a": inputs, "b": (inputs[:, 0],)}, where)
    batch = batches(where)[1]
    found = kept.about(batch)(batch.inputs)
    assert torch.equal(found["a"], batch.inputs)
    assert torch.equal(found["b"][0], batch.inputs[:, 0])


@dataclass(frozen=True)
class Unsaid:
    """A preparation that does not say whether it draws."""

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        return batch


@dataclass(frozen=True)
class Promised(Unsaid):
    random: ClassVar[bool] = False


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (AsIs(), Remembered),
        (Scaled(), Remembered),
        (InTurn((Scaled(), AsIs())), Remembered),
        (Promised(), Remembered),
        (Unsaid(), Live),
        (InTurn((Unsaid(), Scaled())), Live),
    ],
)
def test_what_draws_is_asked_live(prepare: Prepare, kind: type) -> None:
    where = world(prepare=prepare)
    network = where.new_network(0).eval()
    found = answering(where, CrossEntropy(), {"teacher": network})
    assert [type(one) for one in found.values()] == [kind]
    if kind is Live:
        other = torch.randn(3, 8)
        assert found["teacher"].about(batches(where)[0])(other).equal(network(other))


def test_augmented_images_are_asked_live_and_standardised_ones_are_not() -> None:
    assert FlipAndCrop().random and InTurn((FlipAndCrop(), Scaled())).random
    assert not Standardised(mean=(0.5,), std=(0.5,)).random


def test_networks_that_an_objective_brings_are_answered_for_too() -> None:
    where = world()
    own, handed = nn.Linear(8, 3), where.new_network(0).eval()
    objective = Distillation(teacher=Teacher(own))
    found = answering(where, objective, {})
    assert set(found) == {"teacher"}
    batch = batches(where)[0]
    torch.testing.assert_close(found["teacher"].about(batch)(None), own(batch.inputs))
    assert set(answering(where, Distillation(), {"teacher": handed})) == {"teacher"}
    assert answering(where, CrossEntropy(), {}) == {}


def test_distilling_from_memory_gives_the_loss_of_the_live_teacher() -> None:
    where, objective = world(), Distillation(weight=0.7)
    student, teacher = where.new_network(1), where.new_network(2).eval()
    given = answering(where, objective, {"teacher": teacher})
    for batch in batches(where):
        live = objective.loss(student, batch, {"teacher": teacher})
        calls = {name: one.about(batch) for name, one in given.items()}
        torch.testing.assert_close(objective.loss(student, batch, calls), live)
