"""Distillation against its formula in numpy, its limits, and a training by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train, Trained
from tombola.values.handle import Handle
from tombola.values.mask import FULL
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.rng import stream
from tombola.world.batch import Batch
from tombola.world.distillation import Distillation
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
