"""Trainings advanced together: each as if it were alone, bit for bit, or not together at all."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

import tombola.train.executors.stacked as stacked
import tombola.train.loop as loop
from tombola.pieces.dynamics.rigl import RigL
from tombola.pieces.parametrisation import Frozen
from tombola.testing import toy_world
from tombola.train.executors import chosen
from tombola.train.leg import Leg
from tombola.train.loop import start_of, train
from tombola.train.together import Asked, train_together
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.batch import Batch
from tombola.world.models import LeNet
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD, Adam, AdamW, Drops
from tombola.world.world import World, initial_params

STACKED = Numerics(executor="stacked")


def net() -> nn.Module:
    return LeNet(6, 16, 16, 16)


def world_of(**changes: Any) -> World:
    return toy_world(**{"model": net, "numerics": STACKED, **changes})


def half(world: World, seed: int) -> Mask:
    """About half of each tensor but the last; another half for each seed."""
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(seed, layer.name)) < 0.5
            for layer in world.layers[:-1]
        }
    )


def training(world: World, seed: int, **changes: Any) -> Training:
    fields: dict[str, Any] = {
        "world": world,
        "seed": seed,
        "params": initial_params(world, seed),
        "step": 0,
        "mask": FULL if seed == 0 else half(world, seed),
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


def content(leg: Leg) -> dict[str, Any]:
    """Everything a leg says, by digest where it is tensors."""
    return {
        name: value.digest if isinstance(value, (Params, Mask)) else value
        for name, value in vars(leg).items()
    }


class Norm(nn.Module):
    """Normalised, so with statistics that training changes; no chain of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 16)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)


class Smooth(nn.Module):
    """No chain of linear layers either."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)


@dataclass(frozen=True)
class Shaken:
    """Adds noise in training, from the generator of the step."""

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        if generator is None:
            return batch
        noise = torch.randn(batch.inputs.shape, generator=generator)
        return replace(batch, inputs=batch.inputs + 0.1 * noise)


WORLDS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adamw": {"optimiser": AdamW(lr=1e-2, weight_decay=0.1)},
    "momentum": {"optimiser": SGD(lr=0.1, momentum=0.9, weight_decay=1e-3)},
    "plain": {"optimiser": SGD(lr=0.1, rate=Drops(at=(20, 40)))},
    "noise": {"prepare": Shaken()},
    "mapped": {"model": Smooth},
    "normalised": {"model": Norm},  # whose statistics come out otherwise in wider stacks, here
}


@pytest.mark.parametrize("case", WORLDS)
def test_alone_with_others_and_in_another_place_are_the_same_bits(case: str) -> None:
    world = world_of(**WORLDS[case])
    alone = {seed: content(train(training(world, seed))) for seed in range(4)}
    assert alone[1]["executor"] == "stacked"
    for seeds in ((0, 1), (3, 2, 1, 0), (2, 0, 1)):
        asked = [training(world, seed) for seed in seeds]
        assert independent(asked) or case == "normalised"  # so it was one stack that made them
        legs = train_together([Asked(training=one) for one in asked])
        assert [content(leg) for leg in legs] == [alone[seed] for seed in seeds]


def independent(trainings: list[Training]) -> bool:
    starts, choice = [start_of(one) for one in trainings], chosen(trainings[0])
    return stacked.independent(trainings, starts, [None] * len(trainings), choice.links)


@pytest.mark.parametrize("case", WORLDS)
def test_a_stack_trains_as_the_dense_executor_does(case: str) -> None:
    found = train(training(world_of(**WORLDS[case]), 1, until=10))
    dense = train(
        training(world_of(**WORLDS[case], numerics=Numerics(executor="dense")), 1, until=10)
    )
    assert (found.exposure, found.checks) == (dense.exposure, dense.checks)
    assert (found.slots.keys(), found.coords.keys()) == (dense.slots.keys(), dense.coords.keys())
    for mine, theirs in ((found.coords, dense.coords), (found.slots, dense.slots)):
        for name, tensor in mine.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=2e-5)
            assert tensor.dtype == theirs[name].dtype


def test_a_dense_training_may_go_on_from_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are under torch's own names, so a rewound or continued point serves any executor."""
    world = world_of()
    early = train(training(world, 1, until=20))
    plain = world_of(numerics=Numerics(executor="dense"))
    on = training(plain, 1, params=early.coords, slots=early.slots, step=20, until=30)
    theirs = train(on)
    mine = train(replace(on, world=world))
    for name, tensor in mine.coords.items():
        torch.testing.assert_close(tensor, theirs.coords[name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("stops", [(20, 20, 20), (0, 20, 40), (40, 15, 15), (5, 60, 30)])
def test_interrupted_stacks_go_on_from_checkpoints_of_their_own(stops: tuple[int, ...]) -> None:
    world = world_of()
    whole = [content(train(training(world, seed))) for seed in (0, 1, 2)]
    legs = [
        train(training(world, seed, until=stop)) if stop else None
        for seed, stop in enumerate(stops)
    ]
    asked = [
        Asked(training=training(world, seed), resume=None if leg is None else uncheck(leg))
        for seed, leg in enumerate(legs)
    ]
    assert [content(leg) for leg in train_together(asked)] == whole


def test_one_that_was_further_back_joins_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world, widths = world_of(), []
    early = uncheck(train(training(world, 0, until=20)))
    plain = stacked.Stack.advance

    def noted(self: Any, steps: Any) -> None:
        if steps[0][0].noise > stacked.TRIED:  # not of those that only try
            widths.append((len(steps), steps[0][0].number))
        plain(self, steps)

    monkeypatch.setattr(stacked.Stack, "advance", noted)
    behind = [Asked(training=training(world, seed)) for seed in (1, 2)]
    train_together([Asked(training=training(world, 0), resume=early), *behind])
    assert widths == [(2 if step < 20 else 3, step) for step in range(0, 60, 5)]


def uncheck(leg: Leg) -> Leg:
    """As a checkpoint has it: the checks of the end are not made yet."""
    return replace(leg, checks={k: v for k, v in leg.checks.items() if k != "cut_stays_zero"})


def test_checkpoints_and_ticks_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    world = world_of()
    kept: dict[int, list[Leg]] = {0: [], 1: []}
    said: dict[int, list[int]] = {0: [], 1: []}

    def asked(seed: int) -> Asked:
        return Asked(
            training=training(world, seed),
            keep=kept[seed].append,
            tick=lambda step, metrics: said[seed].append(step),
        )

    train_together([asked(0), asked(1)])
    assert said[0] == said[1] == list(range(5, 61, 5))
    for seed in (0, 1):
        assert [leg.step for leg in kept[seed]] == list(range(5, 60, 5))
        alone = train(training(world, seed, until=30))
        assert content(uncheck(alone)) == content(kept[seed][5])


def test_one_that_diverges_stops_and_the_others_go_on() -> None:
    world = world_of(optimiser=SGD(lr=0.1))
    trainings = [training(world, seed) for seed in (0, 1, 2)]
    weights = trainings[1].params
    huge = Params({name: tensor * 1e30 for name, tensor in weights.items()})
    trainings[1] = replace(trainings[1], params=huge)
    legs = train_together([Asked(training=one) for one in trainings])
    assert [leg.diverged_at for leg in legs] == [None, 5, None]
    for leg, one in zip(legs, trainings, strict=True):
        assert content(leg) == content(train(one))


def test_trainings_that_would_change_one_another_are_trained_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loss that rounds by how many there are: found out by two steps, and not stacked."""
    world = world_of()
    plain = stacked.Stack._loss

    def rounded(self: Any, batch: Batch) -> Tensor:
        return plain(self, batch) * (1.0 + 1e-6 * (len(self.trainings) - 1))

    alone = [content(train(training(world, seed))) for seed in (0, 1)]
    monkeypatch.setattr(stacked.Stack, "_loss", rounded)
    asked = [training(world, seed) for seed in (0, 1)]
    assert not independent(asked)
    legs = train_together([Asked(training=one) for one in asked])
    assert [content(leg) for leg in legs] == alone


# -- what is not stacked -------------------------------------------------------------------------


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(dropout(inputs, 0.1, self.training))


class Peeks(Dropped):
    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) if float(inputs.sum()) > 0 else self.layer(-inputs)


class Replaces(Dropped):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.seen = self.seen + 1.0
        return self.layer(inputs).tanh()


class Unused(Dropped):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs).tanh()


class Filters(Dropped):
    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(self.filters(inputs.unsqueeze(1)).squeeze(1))


@dataclass(frozen=True)
class Own(Adam):
    """An optimiser of the user's own."""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": Dropped}, "Dropped cannot be mapped"),
        ({"model": Peeks}, "Peeks cannot be mapped"),
        ({"model": Replaces}, "Replaces replaces its buffers"),
        ({"model": Filters}, "convolutions of several networks at once are slow"),
        ({"model": Unused}, "Unused cannot be mapped"),
        ({"optimiser": Own(lr=0.1)}, "optimiser Own is not Adam or AdamW or SGD"),
        ({"dynamics": RigL()}, "dynamics RigL is not Static"),
        ({"parametrisation": Frozen()}, "parametrisation Frozen is not Identity"),
    ],
)
def test_what_cannot_be_stacked_is_trained_by_the_dense_executor(
    changes: Mapping[str, Any], why: str
) -> None:
    pieces = {n: v for n, v in changes.items() if n in ("dynamics", "parametrisation")}
    world = world_of(**{n: v for n, v in changes.items() if n not in pieces})
    asked = [training(world, seed, mask=FULL, until=10, **pieces) for seed in (0, 1)]
    legs = train_together([Asked(training=one) for one in asked])
    for one, leg in zip(asked, legs, strict=True):
        assert leg.executor == "dense"
        assert leg.why_dense is not None
        assert leg.why_dense.startswith(why)
        assert content(leg) == content(train(one))


def test_a_checkpoint_of_another_executor_is_not_gone_on_from() -> None:
    world = world_of()
    one = training(world, 1)
    other = replace(train(replace(one, until=20)), executor="dense", step=59)
    legs = train_together([Asked(training=one, resume=other), Asked(training=training(world, 2))])
    assert content(legs[0]) == content(train(one))
