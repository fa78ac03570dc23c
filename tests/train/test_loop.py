"""The training loop against the same training written out slowly in plain torch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tombola.train.executors.dense as dense
import tombola.train.loop as loop
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.train.exposure import exposure_of
from tombola.train.leg import Leg
from tombola.train.loop import final_metrics, settled, train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params, params_of
from tombola.values.rng import derive, stream
from tombola.world.batch import Batch
from tombola.world.data.split import Split
from tombola.world.objective import Call, CrossEntropy
from tombola.world.optimiser import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Drops,
    Optimiser,
    Rate,
    WarmUp,
)
from tombola.world.prepare import AsIs
from tombola.world.world import Numerics, World, initial_params

DOUBLE = Numerics(dtype="float64")
DENSE = Numerics(executor="dense")


def half(world: World) -> Mask:
    """About half of each tensor, but all of the last."""
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(9, layer.name)) < 0.5
            for layer in world.layers[:-1]
        }
    )


def training(world: World, mask: Mask | None = None, **changes: Any) -> Training:
    fields: dict[str, Any] = {
        "world": world,
        "seed": 3,
        "params": initial_params(world, 3),
        "step": 0,
        "mask": half(world) if mask is None else mask,
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


# -- the twin ------------------------------------------------------------------------------------

Step = Callable[[Tensor, Tensor, dict[str, Tensor], int, float], Tensor]


def sgd(momentum: float = 0.0, decay: float = 0.0, nesterov: bool = False) -> Step:
    def step(w: Tensor, g: Tensor, kept: dict[str, Tensor], t: int, lr: float) -> Tensor:
        g = g + decay * w
        v = g if t == 0 else momentum * kept["v"] + g
        kept["v"] = v
        return w - lr * (g + momentum * v if nesterov else v)

    return step


def adam(decay: float = 0.0, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Step:
    def step(w: Tensor, g: Tensor, kept: dict[str, Tensor], t: int, lr: float) -> Tensor:
        w = w - lr * decay * w
        kept["m"] = b1 * kept.get("m", torch.zeros_like(w)) + (1 - b1) * g
        kept["v"] = b2 * kept.get("v", torch.zeros_like(w)) + (1 - b2) * g * g
        m, v = kept["m"] / (1 - b1 ** (t + 1)), kept["v"] / (1 - b2 ** (t + 1))
        return w - lr * m / (v.sqrt() + eps)

    return step


def twin(
    world: World, mask: Mask, steps: int, step: Step, rates: Sequence[float]
) -> dict[str, Tensor]:
    """6-12-8-3 with the mask multiplied in, its cross-entropy spelled out, each step by hand."""
    inputs = world.train.inputs.to(torch.float64)
    per_epoch = len(inputs) // world.batch_size
    rows = torch.cat(
        [
            world.order(3, epoch)[: per_epoch * world.batch_size]
            for epoch in range(steps // per_epoch + 1)
        ]
    ).split(world.batch_size)
    weights = {
        name: tensor.to(torch.float64) * mask.of(name, tensor.shape)
        for name, tensor in initial_params(world, 3).items()
    }
    memory: dict[str, dict[str, Tensor]] = {name: {} for name in weights}
    for t in range(steps):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
        hidden = inputs[rows[t]]
        for n in range(3):
            weight = leaves[f"layers.{n}.weight"]
            hidden = hidden @ (weight * mask.of(f"layers.{n}.weight", weight.shape)).T
            hidden = hidden + leaves[f"layers.{n}.bias"]
            hidden = hidden * (hidden > 0) if n < 2 else hidden
        logs = hidden - hidden.exp().sum(dim=1, keepdim=True).log()
        (-logs[torch.arange(len(logs)), world.train.targets[rows[t]]].mean()).backward()
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            weights[name] = step(weights[name], leaf.grad, memory[name], t, rates[t])
    return weights


CASES: dict[str, tuple[Optimiser, Step]] = {
    "sgd": (SGD(lr=0.1), sgd()),
    "momentum": (SGD(lr=0.1, momentum=0.9, weight_decay=0.01), sgd(0.9, 0.01)),
    "nesterov": (SGD(lr=0.1, momentum=0.9, nesterov=True), sgd(0.9, nesterov=True)),
    "adam": (Adam(lr=0.01), adam()),
    "adam-own": (Adam(lr=0.01, betas=(0.8, 0.9), eps=1e-3), adam(b1=0.8, b2=0.9, eps=1e-3)),
    "adamw": (AdamW(lr=0.01, weight_decay=0.1), adam(decay=0.1)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("masked", [True, False], ids=["half", "whole"])
def test_the_loop_is_the_training_written_by_hand(case: str, masked: bool) -> None:
    optimiser, step = CASES[case]
    for numerics, tolerance in ((DOUBLE, 1e-12), (Numerics(), 1e-4)):
        world = toy_world(optimiser=optimiser, numerics=numerics)
        mask = half(world) if masked else FULL
        found = train(training(world, mask, until=20))
        wanted = twin(world, mask, 20, step, [optimiser.lr] * 20)
        assert set(found.coords) == set(wanted)
        for name, tensor in wanted.items():
            assert found.coords[name].dtype == getattr(torch, numerics.dtype)
            torch.testing.assert_close(found.coords[name].double(), tensor, rtol=0, atol=tolerance)
            assert not found.coords[name].double().equal(initial_params(world, 3)[name].double())


@pytest.mark.parametrize(
    ("rate", "factors"),
    [
        (Constant(), [1.0] * 20),
        (Drops(at=(5, 12), by=0.5), [1.0] * 5 + [0.5] * 7 + [0.25] * 8),
        (Cosine(to=0.1), [0.1 + 0.9 * (1 + math.cos(math.pi * t / 60)) / 2 for t in range(20)]),
        (WarmUp(steps=8), [(t + 1) / 8 for t in range(8)] + [1.0] * 12),
        (WarmUp(steps=4, then=Drops(at=(10,))), [0.25, 0.5, 0.75] + [1.0] * 7 + [0.1] * 10),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_learning_rate_follows_its_schedule(rate: Rate, factors: list[float]) -> None:
    optimiser = SGD(lr=0.2, momentum=0.5, rate=rate)
    world = toy_world(optimiser=optimiser, numerics=DOUBLE)
    found = train(training(world, until=20))  # a leg of 60 steps: the clock is that of the whole
    wanted = twin(world, half(world), 20, sgd(0.5), [0.2 * factor for factor in factors])
    for name, tensor in wanted.items():
        torch.testing.assert_close(found.coords[name], tensor, rtol=0, atol=1e-12)


def test_the_clock_starts_where_the_weights_come_from() -> None:
    """Rewound to step 40 of 60: rate, examples and noise are those of steps 40 to 60."""
    seen: list[tuple[float, list[int]]] = []

    @dataclass(frozen=True)
    class Spy:
        def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
            if generator is not None:
                seen.append((float(torch.rand(1, generator=generator)), batch.index.tolist()))
            return batch

    world = toy_world(prepare=Spy(), optimiser=SGD(lr=0.1, rate=Cosine()))
    train(training(world))
    whole = list(seen)
    seen.clear()
    train(training(world, step=40))
    assert (len(whole), seen) == (60, whole[40:])
    assert len({noise for noise, _ in whole}) == 60
    for epoch in range(6):  # 180 examples in batches of 20: nine a pass, each example once
        rows = [row for _, index in whole[9 * epoch : 9 * epoch + 9] for row in index]
        assert sorted(rows) == list(range(180))
        assert rows == world.order(3, epoch).tolist()


@dataclass(frozen=True)
class Decays:
    """Cross-entropy and an L2 penalty on what is trained."""

    factor: float
    given = frozenset[str]()
    metrics = CrossEntropy().metrics
    loss = CrossEntropy().loss
    check_targets = CrossEntropy().check_targets

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor:
        assert all(tensor.requires_grad for tensor in params.values())
        return 0.5 * self.factor * torch.stack([t.square().sum() for t in params.values()]).sum()


def test_a_penalty_is_part_of_the_loss() -> None:
    world = toy_world(optimiser=SGD(lr=0.1), numerics=DOUBLE)
    by_penalty = train(training(world, objective=Decays(0.05)))
    decayed = replace(world, optimiser=SGD(lr=0.1, weight_decay=0.05))
    by_decay = train(training(decayed))
    for name, tensor in by_decay.coords.items():
        torch.testing.assert_close(by_penalty.coords[name], tensor, rtol=0, atol=1e-12)


# -- what is cut, and what is not ----------------------------------------------------------------

ALL = [
    SGD(lr=0.1, momentum=0.9, weight_decay=0.1),
    Adam(lr=0.05),
    AdamW(lr=0.05, weight_decay=0.5),
    SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
]


@pytest.mark.parametrize("optimiser", ALL, ids=lambda o: type(o).__name__)
def test_cuts_stay_positive_zero_and_survivors_move(optimiser: Optimiser) -> None:
    world = toy_world(optimiser=optimiser)
    job = training(world)
    leg = train(job)
    for name, kept in job.mask.items():
        tensor, start = leg.coords[name], job.params[name]
        assert not tensor[~kept].any()
        assert not tensor[~kept].signbit().any()
        for key, slot in leg.slots.items():
            if key.endswith(f"/{name}") and slot.dim():
                assert not slot[~kept].any()
        for sign in (1, -1):  # a well-known code froze every negative weight
            alive = kept & (start.sign() == sign)
            assert bool((tensor != start)[alive].float().mean() > 0.8)
    assert leg.checks == {"rewind_exact": True, "optimiser_fresh": True, "cut_stays_zero": True}


def test_a_cut_weight_has_no_gradient_even_where_it_would_be_infinite() -> None:
    @dataclass(frozen=True)
    class Explodes(Decays):
        def penalty(self, params: Mapping[str, Tensor]) -> Tensor:
            return params["layers.0.weight"].abs().sqrt().sum() * 0.01  # slope at 0 is infinite

    world = toy_world(optimiser=SGD(lr=0.01, momentum=0.9))
    job = training(world, objective=Explodes(0.0))
    leg = train(job)
    assert leg.diverged_at is None
    assert not leg.coords["layers.0.weight"][~job.mask["layers.0.weight"]].any()


def test_the_mask_is_no_part_of_the_network_it_trains() -> None:
    world = toy_world()
    whole, cut = train(training(world, FULL)), train(training(world))
    assert set(whole.coords) == set(cut.coords) == set(initial_params(world, 0))
    assert whole.mask.digest == FULL.digest
    assert whole.checks["cut_stays_zero"] is None  # nothing was cut, so nothing was checked


# -- validation chooses, the test split is looked at twice ---------------------------------------


def test_the_state_kept_is_that_of_least_validation_loss() -> None:
    world = toy_world(optimiser=SGD(lr=1.5, momentum=0.9))  # rough: the last is not the best
    job = training(world)
    leg = train(job)
    losses = {reading.step: reading.metrics["loss"] for reading in leg.readings}
    assert list(losses) == list(range(5, 61, 5))
    assert leg.best_step == min(losses, key=losses.__getitem__) != 60
    assert leg.best is not None
    assert leg.best.digest == train(replace(job, until=leg.best_step)).coords.digest
    assert set(leg.readings[0].metrics) == {"loss", "accuracy"}


def test_of_equal_losses_the_first_is_kept() -> None:
    leg = train(training(toy_world(optimiser=SGD(lr=1e-30))))
    assert len({reading.metrics["loss"] for reading in leg.readings}) == 1
    assert leg.best_step == 5


def test_the_last_step_is_read_whatever_the_interval() -> None:
    leg = train(training(toy_world(steps=17, evaluate_every=5)))
    assert [reading.step for reading in leg.readings] == [5, 10, 15, 17]
    leg = train(training(toy_world(steps=17, evaluate_every=5), until=12))
    assert [reading.step for reading in leg.readings] == [5, 10]


def test_a_training_of_no_steps_reads_the_network_as_it_stands() -> None:
    world = toy_world()
    job = training(world, step=60)
    leg = train(job)
    assert leg.coords.digest == job.mask.apply(job.params).digest
    assert ([reading.step for reading in leg.readings], leg.best_step) == ([60], 60)
    assert leg.exposure == 0


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Split, str]]]:
    """Which split was evaluated, and the digest of the tensors it was evaluated with."""
    calls: list[tuple[Split, str]] = []
    evaluate = loop.evaluate

    def spy(network: nn.Module, world: World, split: Split, call: Any = None) -> dict[str, float]:
        calls.append((split, Params(network.state_dict()).digest))
        return evaluate(network, world, split, call)

    for module in (loop, dense):
        monkeypatch.setattr(module, "evaluate", spy)
    yield calls


def test_the_test_split_is_evaluated_on_exactly_two_states(
    looked_at: list[tuple[Split, str]],
) -> None:
    world = toy_world(optimiser=SGD(lr=1.5, momentum=0.9), numerics=DENSE)
    job = training(world)
    leg = train(job)
    assert [split is world.validation for split, _ in looked_at] == [True] * 12
    looked_at.clear()
    metrics = final_metrics(job, leg)
    assert leg.best is not None
    assert [digest for _, digest in looked_at] == [leg.coords.digest, leg.best.digest]
    assert all(split is world.test for split, _ in looked_at)
    assert list(metrics) == [
        "test_loss",
        "test_accuracy",
        "stop_test_loss",
        "stop_test_accuracy",
        "stop_step",
    ]
    assert metrics["stop_step"] == leg.best_step
    assert metrics["test_loss"] != metrics["stop_test_loss"]


def test_nothing_is_chosen_by_the_test_split() -> None:
    world = toy_world()
    wrong = Split(world.test.inputs, (world.test.targets + 1) % 3)
    one, other = (train(training(w)) for w in (world, replace(world, test=wrong)))
    assert one.coords.digest == other.coords.digest
    assert (one.readings, one.best_step, one.exposure) == (
        other.readings,
        other.best_step,
        other.exposure,
    )
    flipped = replace(world, validation=wrong)
    assert train(training(flipped)).coords.digest == one.coords.digest  # nor trained by validation
    assert train(training(flipped)).readings != one.readings


# -- outcomes that are not errors ----------------------------------------------------------------


@dataclass(frozen=True)
class Poisoned:
    """Not a number from the batch on that has example 7."""

    given = frozenset[str]()
    metrics = CrossEntropy().metrics
    penalty = CrossEntropy().penalty
    check_targets = CrossEntropy().check_targets

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        loss = CrossEntropy().loss(call, batch, given)
        return loss * math.nan if 7 in batch.index else loss


DIVERGING = {
    "nan": {"objective": Poisoned(), "optimiser": SGD(lr=0.1, momentum=0.9)},
    "lr 1e6": {"optimiser": SGD(lr=1e6, momentum=0.9, weight_decay=0.1)},
    "lr 1e30": {"optimiser": Adam(lr=1e30)},
}


@pytest.mark.parametrize("case", DIVERGING)
def test_divergence_is_an_outcome(case: str) -> None:
    world = toy_world(**DIVERGING[case])
    job = training(world)
    leg = train(job)
    assert leg.diverged_at == leg.step < world.steps
    assert leg.step % 5 == 0
    assert [reading.step for reading in leg.readings] == list(range(5, leg.step, 5))
    assert final_metrics(job, leg) == dict.fromkeys(
        ["test_loss", "test_accuracy", "stop_test_loss", "stop_test_accuracy", "stop_step"]
    )
    assert leg.checks["cut_stays_zero"] is True  # though infinities came their way
    finished = settled(job, leg)
    assert finished is not None
    for name, kept in job.mask.items():
        assert not finished[0][name][~kept].any()
    again = train(job, resume=leg)
    assert (again.step, again.diverged_at, again.readings) == (leg.step, leg.step, leg.readings)


def test_weights_that_are_not_finite_diverge_though_the_loss_does_not_show_it() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.used(inputs) + 0.0 * self.unused(torch.zeros_like(inputs))

    @dataclass(frozen=True)
    class Grows(Decays):
        def penalty(self, params: Mapping[str, Tensor]) -> Tensor:
            return -self.factor * params["unused.weight"].square().sum()

    world = toy_world(model=Unused, optimiser=SGD(lr=1.0))
    leg = train(training(world, FULL, objective=Grows(1e4)))
    assert leg.diverged_at is not None
    assert leg.readings
    assert all(math.isfinite(reading.metrics["loss"]) for reading in leg.readings)


# -- what was seen -------------------------------------------------------------------------------


def test_exposure_is_of_what_was_used_and_the_same_for_every_mask() -> None:
    world = toy_world(optimiser=SGD(lr=0.1, rate=Cosine()))
    leg = train(training(world))
    total = 0
    for step in range(60):
        index = world.order(3, step // 9)[step % 9 * 20 : step % 9 * 20 + 20]
        rate = 0.1 * world.optimiser.rate.factor(step, 60)
        total += exposure_of(step, index, rate, derive(3, "noise", step))
    assert leg.exposure == total % 2**128
    assert train(training(world, FULL)).exposure == leg.exposure
    other = [
        training(world, seed=4),
        training(world, until=59),
        training(world, step=1),
        training(replace(world, optimiser=SGD(lr=0.2, rate=Cosine()))),
        training(replace(world, optimiser=SGD(lr=0.1))),
        training(replace(world, batch_size=30)),
    ]
    assert len({leg.exposure, *(train(job).exposure for job in other)}) == 7


def test_seeds_differ_in_data_order_alone_when_they_share_a_start() -> None:
    world = toy_world()
    start = initial_params(world, 3)
    legs: list[Leg] = [train(training(world, seed=seed, params=start)) for seed in (3, 4, 3)]
    assert legs[0].coords.digest == legs[2].coords.digest != legs[1].coords.digest


def test_prepare_without_randomness_is_asked_the_same_for_every_split() -> None:
    asked: list[bool] = []

    @dataclass(frozen=True)
    class Spy(AsIs):
        def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
            asked.append(generator is None)
            return batch

    world = toy_world(prepare=Spy(), steps=10, numerics=DENSE)
    asked.clear()
    job = training(world)
    final_metrics(job, train(job))
    assert asked == [False] * 5 + [True] + [False] * 5 + [True] + [True]


def test_the_test_split_is_looked_at_once_for_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def spy(network: nn.Module, world: World, split: Split) -> dict[str, float]:
        looked.append(params_of(network).digest)
        return evaluate(network, world, split)

    monkeypatch.setattr("tombola.train.loop.evaluate", spy)
    world = toy_world(steps=20, numerics=DENSE)
    leg = train(training(world))
    assert leg.best is not None and leg.best_step == 20
    at_end = final_metrics(training(world), leg)
    assert looked == [leg.coords.digest]
    assert at_end["test_loss"] == at_end["stop_test_loss"]
    apart = final_metrics(training(world), replace(leg, best_step=10, best=training(world).params))
    assert looked[1:] == [leg.coords.digest, training(world).params.digest]
    assert apart["test_loss"] == at_end["test_loss"] != apart["stop_test_loss"]


class Noisy(nn.Module):
    """A network with dropout, so that noise can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layers(inputs)
        return found


def test_order_and_noise_have_seeds_of_their_own() -> None:
    noisy, quiet = toy_world(model=Noisy), toy_world()

    def end(world: World, **seeds: int) -> str:
        return train(training(world, FULL, **seeds)).coords.digest

    assert end(noisy, order_seed=3, noise_seed=3) == end(noisy)  # those of the training itself
    assert len({end(noisy), end(noisy, order_seed=4), end(noisy, noise_seed=4)}) == 3
    assert end(quiet, noise_seed=4) == end(quiet)  # nothing random in it but the order
    assert end(quiet, order_seed=4) != end(quiet)
