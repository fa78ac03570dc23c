"""The runner: looks up, shares, resumes, recomputes what was damaged; engines agree."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import small_world

import tombola.lab.engines.engine
import tombola.train.loop
from tombola.errors import TombolaError, WorkError
from tombola.lab.engines.inline import Inline
from tombola.lab.engines.processes import JobFailedError, Processes, can_fork
from tombola.lab.events import Advanced, Asked, Ended, Event, Finished, Started, Turns
from tombola.lab.runner import Runner, Share
from tombola.lab.store import Store
from tombola.pieces.rewind import ToStep
from tombola.recipes.controls import Dense, Reinit, control_loop
from tombola.recipes.imp import IMP
from tombola.recipes.job import NoDesk, job_key
from tombola.recipes.jobs import Init, Train
from tombola.train.executors.sparse import Sparse
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.models import LeNet
from tombola.world.numerics import Numerics

ROUNDS = ("mask", "params")


def drive(store: Store, *loops: Any, engine: Any = None) -> tuple[Runner, dict[int, Any]]:
    runner = Runner(store, engine or Inline(store))
    return runner, runner.drive(dict(enumerate(loops)))


def digests(rounds: Any) -> list[tuple[str, ...]]:
    return [tuple(getattr(turn.end, part).digest for part in ROUNDS) for turn in rounds]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_equal_jobs_of_several_loops_are_done_once(store: Store) -> None:
    world = small_world()
    runner, ends = drive(
        store,
        IMP.loop(IMP, world, 0),
        control_loop(Dense(), IMP, world, 0),
        control_loop(Reinit(), IMP.up_to(1), world, 0),
    )
    rounds = len(IMP.targets(world))
    trainings = [job for job in runner.tally.run.values() if isinstance(job, Train)]
    assert len(trainings) == rounds + 1  # dense is the ticket's round 0; one reinit
    assert ends[1][0].end.params.digest == ends[0][0].end.params.digest


def test_the_second_drive_trains_nothing_and_gives_the_same(store: Store) -> None:
    world = small_world()
    _, first = drive(store, IMP.loop(IMP, world, 0))
    runner, second = drive(Store(store.folder), IMP.loop(IMP, small_world(), 0))
    assert not runner.tally.run
    assert digests(second[0]) == digests(first[0])


@pytest.mark.skipif(not can_fork(), reason="processes need fork")
def test_processes_and_one_process_reach_the_same_bytes(tmp_path: Path) -> None:
    world = small_world()
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    loops = lambda: [IMP.loop(IMP, world, seed) for seed in (0, 1, 2)]  # noqa: E731
    _, one = drive(here, *loops())
    engine = Processes(there, 2)
    _, several = drive(there, *loops(), engine=engine)
    engine.close()
    assert [digests(one[i]) for i in range(3)] == [digests(several[i]) for i in range(3)]


def test_a_seed_more_trains_that_seed_alone(store: Store) -> None:
    world = small_world()
    drive(store, IMP.loop(IMP, world, 0))
    runner, _ = drive(store, IMP.loop(IMP, world, 0), IMP.loop(IMP, world, 1))
    assert {job.seed for job in runner.tally.run.values()} == {1}


def test_a_plan_counts_what_a_run_then_does(store: Store) -> None:
    world = small_world()
    planned = Runner(store, None)
    planned.drive(
        {0: IMP.loop(IMP, world, 0), 1: control_loop(Reinit(draws=2), IMP.up_to(2), world, 0)}
    )
    ran, _ = drive(
        store, IMP.loop(IMP, world, 0), control_loop(Reinit(draws=2), IMP.up_to(2), world, 0)
    )
    kinds = lambda runner: sorted(job.kind for job in runner.tally.run.values())  # noqa: E731
    assert kinds(planned) == kinds(ran)
    rounds = len(IMP.targets(world))
    assert planned.tally.longest == rounds * world.steps
    assert planned.tally.shares == {
        0: Share(steps=rounds * world.steps, trainings=rounds, chain=rounds * world.steps),
        # two draws side by side, after three trainings that the other asked for first
        1: Share(steps=2 * world.steps, trainings=2, chain=4 * world.steps),
    }


@pytest.mark.parametrize("k", [5, 13, 39])
def test_the_leg_to_k_and_the_dense_arm_are_one_work(store: Store, k: int) -> None:
    """Rewinding costs no training of its own: dense goes on from k, to the same bytes."""
    world = small_world()
    _, plain = drive(Store(store.folder / ".." / "plain"), control_loop(Dense(), IMP, world, 0))
    rewinding = replace(IMP, rewind=ToStep(step=k)).up_to(1)
    runner, ends = drive(store, rewinding.loop(rewinding, world, 0))
    assert ends[0][0].end.params.digest == plain[0][0].end.params.digest
    assert ends[0][0].end.readings == plain[0][0].end.readings
    steps = [store.context(key)["steps"] for key in runner.tally.run]
    assert sum(steps) == world.steps + (world.steps - k)  # dense once, round 1 from k on
    assert ends[0][1].job.begin.step == k


def test_a_damaged_input_is_made_again_and_the_work_goes_on(store: Store) -> None:
    world = small_world()
    up_to_1, up_to_2 = IMP.up_to(1), IMP.up_to(2)
    _, first = drive(store, up_to_1.loop(up_to_1, world, 0))
    broken = first[0][1].end.params.digest
    path = store._object_path(broken)
    path.write_bytes(path.read_bytes()[:-3])
    runner, ends = drive(store, up_to_2.loop(up_to_2, world, 0))
    assert ends[0][1].end.params.digest == broken
    assert store.has(broken)
    assert len(ends[0]) == 3
    trained = [job for job in runner.tally.run.values() if isinstance(job, Train)]
    assert len(trained) == 2  # the damaged one again, and round 2


def _failing() -> LeNet:
    return Broken(6, 12, 8, 3)


class Broken(LeNet):
    """A network with a mistake that shows in training only."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ZeroDivisionError("my own mistake")
        return super().forward(inputs)


@pytest.mark.skipif(not can_fork(), reason="processes need fork")
def test_an_error_in_the_users_code_shows_the_users_frames(store: Store) -> None:
    world = small_world(model=_failing)
    engine = Processes(store, 2)
    with pytest.raises(JobFailedError, match=r"test_runner.py.*\n.*my own mistake") as caught:
        drive(store, control_loop(Dense(), IMP, world, 0), engine=engine)
    engine.close()
    assert "ZeroDivisionError" in str(caught.value)


@pytest.fixture
def checkpoint_at_every_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tombola.train.loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(Sparse, "most", 1)
    yield


@pytest.mark.usefixtures("checkpoint_at_every_step")
def test_a_training_cut_off_anywhere_goes_on_to_the_same_bytes(store: Store, monkeypatch) -> None:
    world = small_world()
    start = Init(world=world, seed=3).run(NoDesk())
    job = Train(
        world=world,
        seed=3,
        begin=Point(start.params, None, 0),
        mask=FULL,
        until=world.steps,
        objective=world.objective,
    )
    whole = job.run(NoDesk())
    for stop in (1, 7, 20, 39):
        place = Store(store.folder / f"{stop}")
        with pytest.raises(KeyboardInterrupt):
            _cut_off(place, job, stop)
        leg = place.resume(job.trajectory, job.until)
        assert leg is not None
        assert leg.step == stop
        engine = Inline(place)
        engine.submit({job_key(job): job})
        assert engine.wait().error is None
        again = place.recall(job_key(job), type(whole))
        assert (again.params.digest, again.readings, again.metrics, again.exposure) == (
            whole.params.digest,
            whole.readings,
            whole.metrics,
            whole.exposure,
        )
        assert place.context(job_key(job))["steps"] == world.steps - stop
        assert place.resume(job.trajectory, job.until) is None  # its checkpoint has gone


def _cut_off(store: Store, job: Train, stop: int) -> None:
    class Desk(NoDesk):
        def keep(self, trajectory: str, leg: Any, pinned: bool) -> None:
            store.keep(trajectory, leg, pinned)
            if leg.step == stop:
                raise KeyboardInterrupt

    job.run(Desk())


@pytest.mark.skipif(not can_fork(), reason="processes need fork")
def test_a_process_killed_from_outside_is_tried_again_then_reported(store, tmp_path) -> None:
    world = small_world(model=_killing_once(tmp_path / "once", times=1))
    heard: list[Event] = []
    engine = Processes(store, 1, heard.append)
    _, ends = drive(store, control_loop(Dense(), IMP, world, 0), engine=engine)
    assert ends[0][0].end.metrics["test_accuracy"] > 0.5
    assert [event.done for event in of(Advanced, heard)].count(0) == 2  # it began twice
    world = small_world(model=_killing_once(tmp_path / "ever", times=100))
    with pytest.raises(WorkError, match="ended from outside"):
        drive(store, control_loop(Dense(), IMP, world, 0), engine=engine)
    engine.close()


def _killing_once(marks: Path, times: int) -> Any:
    """A network whose training kills its own process, up to `times` times."""
    text = str(marks)

    def make() -> LeNet:
        network = LeNet(6, 12, 8, 3)

        def hook(module: LeNet, inputs: Any) -> None:
            if not module.training:
                return
            done = len(Path(text).read_text()) if Path(text).exists() else 0
            if done < times:
                Path(text).write_text("x" * (done + 1))
                os.kill(os.getpid(), signal.SIGKILL)

        network.register_forward_pre_hook(hook)
        return network

    return make


class TwoPartError(TombolaError):
    """A user's error that pickles but does not unpickle."""

    def __init__(self, a: str, b: str) -> None:
        super().__init__(a + b)


class RaisesOwn(LeNet):
    """A network with an error of its own class."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise TwoPartError("one ", "two")
        return super().forward(inputs)


@pytest.mark.skipif(not can_fork(), reason="processes need fork")
def test_any_error_of_the_users_gets_through(store: Store) -> None:
    engine = Processes(store, 2)
    world = small_world(model=lambda: RaisesOwn(6, 12, 8, 3))
    with pytest.raises(JobFailedError, match=r"TwoPartError(.|\n)*one two"):
        drive(store, control_loop(Dense(), IMP, world, 0), engine=engine)
    engine.close()


# -- what is told ----------------------------------------------------------------------------


def told(store: Store, *loops: Any, jobs: int = 1) -> list[Event]:
    """The events of a drive."""
    heard: list[Event] = []
    engine = Inline(store, heard.append) if jobs == 1 else Processes(store, jobs, heard.append)
    Runner(store, engine, heard.append).drive(dict(enumerate(loops)))
    engine.close()
    return heard


def of(kind: type[Event], heard: list[Event]) -> list[Any]:
    return [event for event in heard if isinstance(event, kind)]


def test_each_job_is_told_once_and_in_order_however_many_trials_wait_for_it(store: Store) -> None:
    world = small_world()
    heard = told(store, IMP.loop(IMP, world, 0), control_loop(Dense(), IMP, world, 0))
    asked = {trial: [e.jobs for e in of(Asked, heard) if e.trial == trial] for trial in (0, 1)}
    keys = {key for jobs in asked[0] for key in jobs}
    assert {key for jobs in asked[1] for key in jobs} < keys  # dense waits for the ticket's own
    for key in keys:
        about = [
            type(e) for e in heard if getattr(e, "key", "") == key or key in getattr(e, "jobs", ())
        ]
        own = [kind for kind in about if kind not in (Asked, Advanced)]
        assert about[0] is Asked
        assert own == [Started, Finished]
    assert not any(event.stored for event in of(Finished, heard))
    ends = of(Ended, heard)
    assert [event.trial for event in ends] == [1, 0]
    assert ends[1].result[-1].target == IMP.targets(world)[-1]


def test_what_the_store_answers_is_told_as_such(store: Store) -> None:
    world = small_world()
    first = told(store, IMP.loop(IMP, world, 0))
    again = told(store, IMP.loop(IMP, small_world(), 0))
    assert not of(Started, again)
    assert all(event.stored for event in of(Finished, again))
    assert [e.key for e in of(Finished, again)] == [e.key for e in of(Finished, first)]
    assert [type(e) for e in again[:3]] == [Asked, Finished, Asked]


@pytest.fixture
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombola.lab.engines.engine, "SAY_EVERY", 0.0)
    monkeypatch.setattr(Sparse, "most", 1)


@pytest.mark.parametrize(
    "jobs",
    [1, pytest.param(2, marks=pytest.mark.skipif(not can_fork(), reason="processes need fork"))],
)
@pytest.mark.usefixtures("every_step_is_told")
def test_steps_are_told_with_their_training_and_its_last_reading(store: Store, jobs: int) -> None:
    world = small_world()
    heard = told(store, *(IMP.loop(IMP, world, seed) for seed in (0, 1)), jobs=jobs)
    trained = [event for event in of(Finished, heard) if event.job.kind == "train"]
    assert len(trained) == 2 * len(IMP.targets(world))
    for end in trained:
        advanced = [event for event in of(Advanced, heard) if event.key == end.key]
        assert [event.done for event in advanced] == list(range(world.steps + 1))
        readings = {reading["step"]: reading for reading in end.result.readings}
        for event in advanced:
            last = readings.get(event.done // 5 * 5, {"step": 0})  # one every five steps
            assert {"step": last["step"], **event.metrics} == last


def test_steps_are_not_told_more_often_than_a_display_is_drawn(store: Store) -> None:
    world = small_world(steps=1_000, numerics=Numerics(executor="dense"))
    began = time.monotonic()
    heard = told(store, control_loop(Dense(), IMP, world, 0))
    spoken = len(of(Advanced, heard)) - 1  # less the beginning
    assert 1 <= spoken <= (time.monotonic() - began) / 0.1


@pytest.mark.usefixtures("checkpoint_at_every_step", "every_step_is_told")
def test_a_training_that_goes_on_tells_where_it_begins(store: Store) -> None:
    world = small_world()
    (dense,) = drive(Store(store.folder / "plain"), control_loop(Dense(), IMP, world, 0))[1][0]
    with pytest.raises(KeyboardInterrupt):
        _cut_off(store, dense.job, stop=7)
    heard = told(store, control_loop(Dense(), IMP, world, 0))
    assert [event.done for event in of(Advanced, heard)] == list(range(7, world.steps + 1))


@pytest.mark.usefixtures("every_step_is_told")
def test_a_training_that_is_rewound_counts_its_own_steps(store: Store) -> None:
    world, rewinding = small_world(), replace(IMP, rewind=ToStep(step=15)).up_to(1)
    heard = told(store, rewinding.loop(rewinding, world, 0))
    trained = [event for event in of(Finished, heard) if event.job.kind == "train"]
    done = [[e.done for e in of(Advanced, heard) if e.key == end.key] for end in trained]
    leg, whole, rewound = range(16), range(15, 41), range(26)
    assert done == [list(leg), list(whole), list(rewound)]


def test_a_training_is_of_the_round_whose_cut_made_its_mask(store: Store) -> None:
    world, turns = small_world(), Turns()
    rewinding = replace(IMP, rewind=ToStep(step=5))
    heard = told(store, *(rewinding.loop(rewinding, world, seed) for seed in (0, 1)))
    found: dict[int, list[int]] = {0: [], 1: []}
    for event in heard:
        turns(event)
        if isinstance(event, Finished):
            target = turns.of(event.job)
            assert (target is None) == (event.job.kind != "train")
            if target is not None:
                found[event.job.seed].append(target.round)
    rounds = list(range(len(IMP.targets(world))))
    assert found == {0: [0, *rounds], 1: [0, *rounds]}  # the way to step 5 is of the whole network
