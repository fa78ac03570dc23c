"""Each self-check of a training, made to fail on purpose."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tombola.train.executors.dense as dense
from tombola.errors import CheckError
from tombola.pieces.parametrisation import Identity
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Train
from tombola.testing import toy_world
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD, AdamW, Constant, Rate
from tombola.world.world import World, fill, initial_params

W0 = "layers.0.weight"
CUT = Mask({W0: torch.arange(72).reshape(12, 6) % 2 == 0})


def training(world: World, mask: Mask = CUT, **changes: Any) -> Training:
    fields: dict[str, Any] = {
        "world": world,
        "seed": 3,
        "params": initial_params(world, 3),
        "mask": mask,
        "step": 0,
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


@dataclass(frozen=True)
class Own:
    """SGD whose every step is followed by something, with its state prepared by something."""

    after: Callable[[list[Tensor]], None] = lambda tensors: None
    before: Callable[[torch.optim.Optimizer, list[Tensor]], None] = lambda optimiser, tensors: None
    lr: float = 0.1
    rate: Rate = field(default_factory=Constant)

    def build(self, tensors: list[Tensor]) -> torch.optim.Optimizer:
        optimiser = torch.optim.SGD(tensors, lr=self.lr, momentum=0.9)
        self.before(optimiser, tensors)

        def then(*_: Any) -> None:
            with torch.no_grad():
                self.after(tensors)

        optimiser.register_step_post_hook(then)
        return optimiser


def primed(optimiser: torch.optim.Optimizer, tensors: list[Tensor]) -> None:
    optimiser.state[tensors[0]]["momentum_buffer"] = torch.zeros_like(tensors[0])


def nothing(*_: Any) -> None:
    return None


def nudge(tensors: list[Tensor]) -> None:
    tensors[0].add_(1e-30)


def negate(tensors: list[Tensor]) -> None:
    tensors[0].neg_()  # makes -0.0 of +0.0


@dataclass(frozen=True)
class Aliasing:
    """Trains the stored start itself: a rewind would find the trained weights there."""

    held: list[Mapping[str, Tensor]] = field(default_factory=list)
    moves: float = 1e-3

    def refuses(self, setting: object) -> None:
        return None

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        self.held.append(params)
        return mask.apply(params)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return names

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            self.held[-1][W0].add_(self.moves)
        return {}

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        return coords, mask


# -- rewind_exact --------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest not asked for yet"])
def test_a_start_that_training_writes_into_stops_the_run(known: bool) -> None:
    job = training(toy_world(), parametrisation=Aliasing())
    if known:
        assert job.params.digest
    with pytest.raises(CheckError, match=r"rewind_exact: the stored start .* changed while"):
        train(job)
    train(replace(job, params=initial_params(job.world, 3), parametrisation=Aliasing(moves=0.0)))


def test_a_job_whose_start_is_written_into_stops_too() -> None:
    world = toy_world()
    job = Train(
        world=world,
        seed=3,
        begin=Point(initial_params(world, 3), None, 0),
        mask=FULL,
        until=60,
        objective=world.objective,
        parametrisation=Aliasing(),
    )
    with pytest.raises(CheckError, match=r"rewind_exact"):
        job.run(NoDesk())


def test_the_stored_start_is_not_changed_by_training() -> None:
    class Normed(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    for world, mask in ((toy_world(), CUT), (toy_world(), FULL), (toy_world(model=Normed), FULL)):
        job = training(world, mask)
        before = job.params.rehash()
        leg = train(job)
        assert job.params.rehash() == before
        theirs = {tensor.data_ptr() for tensor in job.params.values()}
        ours = {t.data_ptr() for part in (leg.coords, leg.best or {}) for t in part.values()}
        assert not theirs & ours


@pytest.mark.parametrize("value", [1e-7, -0.0])
def test_a_network_that_does_not_hold_its_start_stops_the_run(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sloppy(network: nn.Module, params: Mapping[str, Tensor]) -> None:
        fill(network, params)
        with torch.no_grad():
            bias = dict(network.named_parameters())["layers.0.bias"]
            bias.add_(value) if value else bias.copy_(-torch.zeros(12))

    monkeypatch.setattr(dense, "fill", sloppy)
    with pytest.raises(CheckError, match=r"rewind_exact: the network does not hold"):
        train(training(toy_world(numerics=Numerics(executor="dense"))))


@pytest.mark.parametrize("name", ["layers.0.bias", W0])
def test_coordinates_that_are_not_the_stored_values_stop_the_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rescaled(self: Identity, params: Params, mask: Mask, seed: int) -> Params:
        return mask.apply(params.replaced({name: params[name] + 1e-7}))

    monkeypatch.setattr(Identity, "coords", rescaled)
    with pytest.raises(CheckError, match=f"rewind_exact: '{name}' does not start from its stored"):
        train(training(toy_world()))


def test_running_statistics_that_are_left_behind_stop_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Normed(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def parameters_alone(network: nn.Module, params: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in network.named_parameters():
                tensor.copy_(params[name])

    world = toy_world(model=Normed)
    early = train(training(world, FULL, until=20))
    train(training(world, FULL, params=early.coords, step=20))
    monkeypatch.setattr(dense, "fill", parameters_alone)
    with pytest.raises(CheckError, match="rewind_exact"):
        train(training(world, FULL, params=early.coords, step=20))


# -- optimiser_fresh -----------------------------------------------------------------------------


def test_an_optimiser_that_remembers_stops_the_run() -> None:
    with pytest.raises(CheckError, match=r"optimiser_fresh: the optimiser holds state before"):
        train(training(toy_world(optimiser=Own(nothing, primed))))


def test_a_training_that_goes_on_has_nothing_to_be_fresh() -> None:
    job = training(toy_world(optimiser=SGD(lr=0.1, momentum=0.9)))
    first = train(replace(job, until=10))
    rest = train(replace(job, params=first.coords, slots=first.slots, step=10))
    assert (first.checks["optimiser_fresh"], rest.checks["optimiser_fresh"]) == (True, None)


# -- cut_stays_zero ------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [nudge, negate], ids=["moved", "minus zero"])
def test_cut_weights_that_are_not_positive_zero_stop_the_run(
    after: Callable[[list[Tensor]], None],
) -> None:
    world = toy_world(optimiser=Own(after, nothing), steps=15)
    with pytest.raises(CheckError, match=f"cut_stays_zero: cut weights of '{W0}' are not"):
        train(training(world))
    train(training(world, FULL))  # nothing is cut, so nothing can be wrong


def test_finished_networks_are_checked_as_they_are_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unsettled(self: Identity, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        return coords.replaced({W0: -coords[W0]}), mask

    monkeypatch.setattr(Identity, "settle", unsettled)
    world = toy_world()
    job = Train(
        world=world,
        seed=3,
        begin=Point(initial_params(world, 3), None, 0),
        mask=CUT,
        until=60,
        objective=world.objective,
    )
    with pytest.raises(CheckError, match="cut_stays_zero"):
        job.run(NoDesk())


def test_strong_decay_does_not_look_like_a_broken_promise() -> None:
    """AdamW multiplies by 1 - lr * decay: below zero that makes -0.0 of +0.0."""
    world = toy_world(optimiser=AdamW(lr=0.9, weight_decay=1.0))
    leg = train(training(world))
    assert leg.checks["cut_stays_zero"] is True
