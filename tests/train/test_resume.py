"""0 to T equals 0 to k to T, bit for bit, however the training came to stop at k."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import tombola.train.loop as loop
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train, Trained
from tombola.testing import toy_net, toy_world
from tombola.train.executors.sparse import Sparse
from tombola.train.exposure import added, exposure_of
from tombola.train.leg import Leg
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.digest import canonical, digest
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.rng import stream
from tombola.world.distillation import Distillation
from tombola.world.optimiser import SGD, Adam, AdamW, Cosine, Optimiser
from tombola.world.world import World, initial_params

OPTIMISERS: list[Optimiser] = [
    SGD(lr=0.1),
    SGD(lr=0.1, momentum=0.9, weight_decay=0.01, rate=Cosine()),
    Adam(lr=0.01),
    AdamW(lr=0.01, weight_decay=0.1),
]
KS = (1, 4, 5, 9, 10, 37, 59)  # beside and on evaluations (every 5) and passes (every 9)


class Noisy(nn.Module):
    """Dropout, and running statistics, in two kinds of buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(12, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(inputs))


MODELS = {"plain": toy_net, "noisy": Noisy}


def half(world: World) -> Mask:
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(9, layer.name)) < 0.5
            for layer in world.layers
        }
    )


def training(world: World, **changes: Any) -> Training:
    fields: dict[str, Any] = {
        "world": world,
        "seed": 3,
        "params": initial_params(world, 3),
        "mask": half(world),
        "step": 0,
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


@pytest.fixture
def legs_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Training], list[Leg]]:
    """The state after every step; the last is the end."""

    def legs(job: Training) -> list[Leg]:
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
        monkeypatch.setattr(Sparse, "most", 1)
        kept: list[Leg] = []
        end = train(job, keep=kept.append)
        assert [leg.step for leg in (*kept, end)] == list(range(1, job.until + 1))
        return [*kept, end]

    return legs


# -- in the loop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: type(o).__name__)
def test_a_kept_state_goes_on_as_if_nothing_had_happened(
    model: str, optimiser: Optimiser, legs_of: Callable[[Training], list[Leg]]
) -> None:
    job = training(toy_world(model=MODELS[model], optimiser=optimiser))
    legs = legs_of(job)
    undisturbed = train(job)
    assert digest(legs[-1]) == digest(undisturbed)  # keeping states changes nothing
    for k in KS:
        resumed = train(job, resume=legs[k - 1])
        assert digest(resumed) == digest(undisturbed)  # curve, best state and exposure too
        to_k = train(replace(job, until=k))  # what is checked at the end is checked there too
        assert digest(replace(to_k, checks={})) == digest(replace(legs[k - 1], checks={}))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: type(o).__name__)
def test_a_point_with_slots_goes_on_too(model: str, optimiser: Optimiser) -> None:
    job = training(toy_world(model=MODELS[model], optimiser=optimiser))
    whole = train(job)
    for k in KS:
        first = train(replace(job, until=k))
        rest = train(replace(job, params=first.coords, slots=first.slots, step=k))
        assert rest.coords.digest == whole.coords.digest
        assert rest.slots.digest == whole.slots.digest
        assert first.readings + rest.readings == whole.readings
        assert added(first.exposure, rest.exposure) == whole.exposure
        assert rest.checks["optimiser_fresh"] is None  # slots came with it, so it cannot be
        better = min(
            (leg for leg in (first, rest) if leg.best_step is not None),
            key=lambda leg: min(reading.metrics["loss"] for reading in leg.readings),
        )
        assert better.best_step == whole.best_step
        assert better.best is not None
        assert whole.best is not None
        assert better.best.digest == whole.best.digest


@pytest.mark.parametrize("optimiser", OPTIMISERS[1:], ids=lambda o: type(o).__name__)
def test_slots_matter(optimiser: Optimiser) -> None:
    """The same from the same weights without its slots ends elsewhere: so slots were dropped."""
    job = training(toy_world(optimiser=optimiser))
    first = train(replace(job, until=20))
    fresh = train(replace(job, params=first.coords, step=20))
    assert fresh.coords.digest != train(job).coords.digest
    assert fresh.checks["optimiser_fresh"] is True
    stateful = 2 if isinstance(optimiser, SGD) else 4
    assert all(slot.dim() == 0 or bool(slot.any()) for slot in first.slots.values())
    assert len(first.slots) == len(first.coords) * (1 if stateful == 2 else 3)


def test_interruptions_may_be_many(legs_of: Callable[[Training], list[Leg]]) -> None:
    job = training(toy_world(model=Noisy, optimiser=OPTIMISERS[1]))
    whole, leg = train(job), None
    for k in (1, 2, 10, 11, 33, 60):
        leg = train(replace(job, until=k), resume=leg)
    assert leg is not None
    assert digest(leg) == digest(whole)


def test_what_is_kept_is_a_copy(legs_of: Callable[[Training], list[Leg]]) -> None:
    job = training(toy_world(model=Noisy, optimiser=OPTIMISERS[1]))
    for leg in legs_of(job):
        parts = [leg.coords, leg.slots, *([leg.best] if leg.best is not None else [])]
        assert all(part.rehash() == Params(dict(part)).digest for part in parts)
    kept: list[tuple[Leg, str]] = []
    train(job, keep=lambda leg: kept.append((leg, digest([leg.coords, leg.slots, leg.best]))))
    for leg, before in kept:
        parts = [
            None if part is None else Params(dict(part))
            for part in (leg.coords, leg.slots, leg.best)
        ]
        assert digest(parts) == before


def test_states_are_kept_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10_000))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(Sparse, "most", 1)
    kept: list[Leg] = []
    train(training(toy_world()), keep=kept.append)
    steps = [leg.step for leg in kept]
    assert len(steps) in (2, 3)
    assert {later - earlier for earlier, later in pairwise(steps)} <= {20, 21}


# -- running statistics --------------------------------------------------------------------------


def test_running_statistics_rewind_with_the_weights() -> None:
    world = toy_world(model=Noisy)
    early = train(training(world, mask=FULL, until=20))
    names = {f"body.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert names <= set(early.coords)
    assert int(early.coords["body.1.num_batches_tracked"]) == 20
    fresh = initial_params(world, 3)
    stand = train(training(world, params=early.coords, step=60))  # no step is made
    for name in names:
        assert stand.coords[name].equal(early.coords[name])
        assert not stand.coords[name].equal(fresh[name])
    retrained = train(training(world, params=early.coords, step=20))
    assert int(retrained.coords["body.1.num_batches_tracked"]) == 60
    assert retrained.best is not None
    assert int(retrained.best["body.1.num_batches_tracked"]) == retrained.best_step


def test_a_network_made_in_inference_mode_is_trained_in_training_mode() -> None:
    leg = train(training(toy_world(model=lambda: Noisy().eval()), mask=FULL))
    assert leg.coords.digest == train(training(toy_world(model=Noisy), mask=FULL)).coords.digest
    assert int(leg.coords["body.1.num_batches_tracked"]) == 60


# -- as jobs, with a drawer for unfinished work --------------------------------------------------


@dataclass
class Drawer:
    """A desk that keeps the furthest state, and may pull the plug at a step."""

    plug: int | None = None
    done: int = 0
    legs: dict[tuple[str, int], Leg] = field(default_factory=dict)
    ticks: list[int] = field(default_factory=list)

    def resume(self, trajectory: str, begin: int, until: int) -> Leg | None:
        steps = [step for name, step in self.legs if name == trajectory and step <= until]
        return self.legs[trajectory, max(steps)] if steps else None

    def keep(self, trajectory: str, leg: Leg, pinned: bool) -> None:
        self.legs[trajectory, leg.step] = leg
        if self.plug is not None and leg.step >= self.plug:
            raise KeyboardInterrupt

    def tick(self, done: int, metrics: Mapping[str, float]) -> None:
        self.ticks.append(done)


def train_job(world: World, until: int = 60, **changes: Any) -> Train:
    start = Init(world=world, seed=3).run(NoDesk())
    job = Train(
        world=world,
        seed=3,
        begin=Point(start.params, None, 0),
        mask=half(world),
        until=until,
        objective=world.objective,
    )
    return replace(job, **changes)


@pytest.mark.parametrize("model", MODELS)
def test_a_job_killed_anywhere_ends_as_if_it_had_not(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = train_job(toy_world(model=MODELS[model], optimiser=OPTIMISERS[1]))
    undisturbed = job.run(NoDesk())
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(Sparse, "most", 1)
    for plug in (1, 23, 59):
        desk = Drawer(plug=plug)
        with pytest.raises(KeyboardInterrupt):
            job.run(desk)
        desk.plug = None
        assert digest(job.run(desk)) == digest(undisturbed)
    fresh = Drawer()
    job.run(fresh)
    assert fresh.ticks == list(range(1, 61))


def test_the_way_to_k_is_the_beginning_of_the_way_to_the_end() -> None:
    world, desk = toy_world(optimiser=OPTIMISERS[1]), Drawer()
    early, whole = train_job(world, until=20), train_job(world)
    assert early.trajectory == whole.trajectory
    leg = early.run(desk)
    assert list(desk.legs) == [(whole.trajectory, 20)]  # kept though no time had passed
    assert (leg.metrics, leg.began, leg.step, leg.point.step) == ({}, 0, 20, 20)
    assert leg.slots is not None
    end = whole.run(desk)
    assert digest(end) == digest(whole.run(NoDesk()))
    assert end.slots is None
    assert desk.resume(whole.trajectory, 0, 19) is None


def test_work_of_another_training_is_never_taken_up() -> None:
    world = toy_world()
    job, start = train_job(world), Init(world=world, seed=3, draw=1).run(NoDesk())
    others = [
        replace(job, seed=4),
        replace(job, mask=FULL),
        replace(job, world=toy_world(steps=61)),
        replace(job, begin=Point(start.params, None, 0)),
        replace(job, begin=Point(job.begin.params, None, 1)),
        replace(job, begin=Point(job.begin.params, Params({}), 0)),
        replace(job, objective=Distillation(weight=0.5), given={"teacher": start.params}),
        replace(job, objective=Distillation(weight=0.5), given={"teacher": job.begin.params}),
    ]
    assert len({job.trajectory, *(other.trajectory for other in others)}) == len(others) + 1


def test_results_are_data_and_the_same_each_time() -> None:
    job = train_job(toy_world())
    one, other = job.run(NoDesk()), job.run(NoDesk())
    assert isinstance(one, Trained)
    assert digest(one) == digest(other)
    assert canonical(one.readings) == one.readings
    assert set(one.metrics) == {
        "test_loss",
        "test_accuracy",
        "stop_test_loss",
        "stop_test_accuracy",
        "stop_step",
    }
    assert one.kept == {name: int(kept.sum()) for name, kept in half(job.world).items()}
    assert (one.began, one.step, one.diverged, len(one.exposure)) == (0, 60, False, 32)
    assert (job.steps, replace(job, until=20).steps) == (60, 20)


def test_exposure_adds_up_and_sees_everything() -> None:
    index = torch.tensor([4, 7, 9])
    base = exposure_of(3, index, 0.1, 5)
    others = [
        exposure_of(4, index, 0.1, 5),
        exposure_of(3, index.flip(0), 0.1, 5),
        exposure_of(3, index[:2], 0.1, 5),
        exposure_of(3, index, 0.1 + 1e-18, 5),
        exposure_of(3, index, 0.1000001, 5),
        exposure_of(3, index, 0.1, 6),
    ]
    assert len({base, *others}) == 6  # .1 + 1e-18 is .1
    assert all(0 <= one < 2**128 for one in others)
    parts = [2**128 - 1, 5, base]
    assert added(added(parts[0], parts[1]), parts[2]) == added(parts[0], added(parts[1], parts[2]))
    assert added(2**128 - 1, 1) == 0
