"""Distillation against its formula in numpy, its limits, and a training by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drive import drive
from torch import Tensor, nn

from tombola.errors import RecipeError, WorldError
from tombola.pieces.schedule import Densities
from tombola.recipes import KD_TICKET, Uncut
from tombola.recipes.controls import control_loop
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train, Trained
from tombola.values.handle import Handle
from tombola.values.mask import FULL
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.rng import stream
from tombola.world.batch import Batch
from tombola.world.distillation import Distillation, Teacher
from tombola.world.models import LeNet
from tombola.world.numerics import Numerics
from tombola.world.objective import CrossEntropy
from tombola.world.optimiser import Adam
from tombola.world.world import World


def draw(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


STUDENT, TEACHER = 3 * draw("student", 6, 4), 3 * draw("teacher", 6, 4)
BATCH = Batch(torch.zeros(6, 1), torch.tensor([0, 3, 1, 2, 2, 0]), torch.arange(6))


def loss(objective: Distillation, outputs: Tensor, batch: Batch = BATCH) -> Tensor:
    return objective.loss(lambda _: outputs, batch, {"teacher": lambda _: TEACHER})


def softmax(outputs: np.ndarray) -> np.ndarray:
    raised = np.exp(outputs)
    return raised / raised.sum()


@pytest.mark.parametrize("weight", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_loss_equals_the_formula(tau: float, weight: float) -> None:
    hard, soft = 0.0, 0.0
    for z_s, z_t, y in zip(STUDENT.numpy(), TEACHER.numpy(), BATCH.targets.numpy(), strict=True):
        hard -= np.log(softmax(z_s)[y]) / 6
        for p_t, p_s in zip(softmax(z_t / tau), softmax(z_s / tau), strict=True):
            soft += p_t * np.log(p_t / p_s) / 6
    expected = (1 - weight) * hard + weight * tau**2 * soft
    found = loss(Distillation(temperature=tau, weight=weight), STUDENT)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_gradient_approaches_that_of_matching_centred_outputs_as_temperature_grows() -> None:
    centred = (STUDENT - STUDENT.mean(1, keepdim=True)) - (TEACHER - TEACHER.mean(1, keepdim=True))
    for tau in (1e3, 1e4):
        outputs = STUDENT.clone().requires_grad_()
        loss(Distillation(temperature=tau), outputs).backward()
        torch.testing.assert_close(outputs.grad, centred / 4 / 6, rtol=0, atol=10 / tau)


def test_gradient_at_weight_one_does_not_depend_on_targets() -> None:
    grads = []
    for targets in (BATCH.targets, BATCH.targets.flip(0)):
        outputs = STUDENT.clone().requires_grad_()
        loss(Distillation(), outputs, Batch(BATCH.inputs, targets, BATCH.index)).backward()
        grads.append(outputs.grad)
    assert torch.equal(grads[0], grads[1]) and bool(grads[0].any())


def test_student_that_agrees_with_the_teacher_loses_nothing_at_weight_one() -> None:
    assert float(loss(Distillation(), TEACHER + 7.0)) == pytest.approx(0.0, abs=1e-14)


def test_network_runs_once_a_loss_and_the_teacher_without_gradient() -> None:
    runs, modes = [], []

    def call(inputs: Tensor) -> Tensor:
        runs.append(inputs)
        return STUDENT.clone().requires_grad_()

    def teacher(inputs: Tensor) -> Tensor:
        modes.append(torch.is_grad_enabled())
        return TEACHER

    Distillation(weight=0.5).loss(call, BATCH, {"teacher": teacher})
    assert len(runs) == 1 and modes == [False]


def test_given_metrics_and_target_checks_are_those_of_the_hard_loss_beside_the_teacher() -> None:
    assert Distillation().given == {"teacher"}
    assert Distillation(weight=0.0).given == frozenset()
    assert Distillation().metrics == CrossEntropy().metrics
    assert Distillation().penalty({}) is None
    wrong = (torch.tensor([0, 4]), torch.zeros(2, 4))
    assert Distillation().check_targets(*wrong) == CrossEntropy().check_targets(*wrong) is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, r"temperature=0.0\): want a positive number, for example 4"),
        ({"temperature": float("nan")}, r"temperature=nan\): want a positive number"),
        ({"weight": 1.5}, r"weight=1.5\): want 0 \(targets alone\) to 1 \(teacher alone\)"),
        ({"weight": -0.1}, r"weight=-0.1\): want 0"),
    ],
)
def test_refuses_fields_out_of_range(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        Distillation(**wrong)


# -- in a training ----------------------------------------------------------------------------


def world(targets: Tensor | None = None) -> World:
    right = torch.arange(200) % 3
    inputs = (2 * draw("centres", 3, 8)[right] + draw("spread", 200, 8)).float()
    given = right if targets is None else targets
    return World(
        model=lambda: LeNet(8, 10, 3),
        numerics=Numerics(executor="dense"),  # another one rounds otherwise
        train=(inputs[:120], given[:120]),
        validation=(inputs[120:160], right[120:160]),
        test=(inputs[160:], right[160:]),
        steps=60,
        batch_size=20,
        optimiser=Adam(lr=1e-2),
    )


def trained(
    where: World, objective: Distillation | CrossEntropy, teacher: Handle[Params] | None = None
) -> Trained:
    start = Init(world=where, seed=0).run(NoDesk()).params
    given = {} if teacher is None else {"teacher": teacher}
    return Train(
        world=where,
        seed=0,
        begin=Point(start, None, 0),
        mask=FULL,
        until=where.steps,
        objective=objective,
        given=given,
    ).run(NoDesk())


def test_weight_zero_trains_as_the_plain_objective_bit_for_bit() -> None:
    plain, none = trained(world(), CrossEntropy()), trained(world(), Distillation(weight=0.0))
    assert none.params.digest == plain.params.digest
    assert none.metrics == plain.metrics


def test_weight_one_learns_from_the_teacher_alone() -> None:
    teacher = trained(world(), CrossEntropy())
    scrambled = world(torch.randint(3, (200,), generator=stream(0, "scrambled")))
    taught = trained(world(), Distillation(), teacher.params)
    misled = trained(scrambled, Distillation(), teacher.params)
    for name, tensor in taught.params.load().items():
        assert torch.equal(tensor, misled.params.load()[name])
    assert (
        misled.metrics["test_accuracy"]
        > trained(scrambled, CrossEntropy()).metrics["test_accuracy"]
    )
    assert teacher.params.load().rehash() == teacher.params.digest


# -- other teachers ---------------------------------------------------------------------------


def test_a_module_of_ones_own_teaches_as_the_network_handed_over_does_bit_for_bit() -> None:
    where = world()
    teacher = trained(where, CrossEntropy())
    handed = trained(where, Distillation(), teacher.params)
    network = where.network(teacher.params.load()).train()
    own = trained(where, Distillation(teacher=Teacher(network)))
    assert own.params.digest == handed.params.digest
    assert network.training  # a copy was taken, in inference mode


def test_a_teacher_is_a_copy_with_an_identity() -> None:
    network = nn.Sequential(nn.Linear(8, 3))
    teacher = Teacher(network)
    name = teacher.digest
    assert Teacher(network).digest == name
    with torch.no_grad():
        network[0].weight.add_(1.0)
    assert Teacher(network).digest != name
    assert torch.equal(teacher.network[0].weight + 1.0, network[0].weight)
    assert Teacher(nn.Sequential(nn.Linear(8, 3), nn.Identity())).digest != name
    assert not any(tensor.requires_grad for tensor in teacher.network.parameters())


def test_a_teacher_of_another_architecture_teaches_a_ticket() -> None:
    larger = Teacher(LeNet(8, 30, 20, 3))
    recipe = replace(
        KD_TICKET, schedule=Densities(values=(0.5,)), retrain=Distillation(teacher=larger)
    )
    recipe.check(world())
    _, ticket = drive(recipe.loop(recipe, world(), 0))
    assert not ticket.job.given
    assert ticket.end.metrics["test_accuracy"] is not None


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (LeNet(8, 10, 4), r"the teacher's output is \(2, 4\), the network's \(2, 3\); .* same cl"),
        (LeNet(9, 10, 3), r"its tickets cannot be retrained so: .*shapes cannot be multiplied"),
    ],
)
def test_a_teacher_of_other_classes_or_inputs_is_refused(network: nn.Module, message: str) -> None:
    recipe = replace(KD_TICKET, retrain=Distillation(teacher=Teacher(network)))
    with pytest.raises(RecipeError, match=r"recipe 'kd-ticket' on world 'unnamed': .*" + message):
        recipe.check(world())


@pytest.mark.parametrize("wrong", ["net", nn.Linear, 3])
def test_what_is_no_module_is_no_teacher(wrong: Any) -> None:
    with pytest.raises(WorldError, match=r"want a torch.nn.Module that is trained already"):
        Teacher(wrong)
    with pytest.raises(WorldError, match=r"Distillation\(teacher=.*\): want a tombola.Teacher"):
        Distillation(teacher=wrong)


def test_uncut_is_the_whole_network_with_the_tickets_teacher_and_start() -> None:
    recipe, where = replace(KD_TICKET, schedule=Densities(values=(0.5,))), world()
    dense, ticket = drive(recipe.loop(recipe, where, 0))
    (uncut,) = drive(control_loop(Uncut(), recipe, where, 0))
    by_hand = trained(where, Distillation(), dense.end.params)
    assert uncut.end.params.digest == by_hand.params.digest != dense.end.params.digest
    assert (uncut.target.round, uncut.target.density) == (1, 1.0)
    assert uncut.job.given["teacher"].digest == ticket.job.given["teacher"].digest
