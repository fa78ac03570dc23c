"""Trainings that one worker advances together: the store has what each alone would leave."""

import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from toy import small_world

import tombola.train.loop as loop
from tombola.lab.engines.inline import Inline
from tombola.lab.engines.processes import Processes, can_fork
from tombola.lab.runner import TOGETHER, Runner
from tombola.lab.store import Store
from tombola.recipes.controls import Reinit, control_loop
from tombola.recipes.imp import IMP
from tombola.recipes.job import Job, NoDesk, job_key
from tombola.recipes.jobs import Init, Train
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.models import LeNet
from tombola.world.numerics import Numerics
from tombola.world.world import World

STACKED = Numerics(executor="stacked")
needs_fork = pytest.mark.skipif(not can_fork(), reason="processes need fork")


def net() -> nn.Module:
    return LeNet(6, 16, 16, 16)


def world_of(**changes: Any) -> World:
    return small_world(**{"model": net, "numerics": STACKED, **changes})


def loops(world: World) -> dict[Any, Any]:
    recipe = IMP.up_to(2)
    trials = {seed: recipe.loop(recipe, world, seed) for seed in range(4)}
    return {**trials, "reinit": control_loop(Reinit(), recipe, world, 0)}


class Heard(Inline):
    """Inline, with the sizes of what was submitted."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.sizes: list[int] = []

    def submit(self, jobs: Mapping[str, Job]) -> None:
        if all(isinstance(job, Train) for job in jobs.values()):
            self.sizes.append(len(jobs))
        super().submit(jobs)


def results(store: Store) -> dict[str, bytes]:
    """Every result and tensor of a store; what it took and where is not part of them."""
    objects = {
        path.name: path.read_bytes()
        for path in (store.folder / "objects").rglob("*")
        if path.is_file()
    }
    assert objects
    return objects


def test_seeds_and_arms_are_trained_together_and_stored_as_alone(tmp_path: Path) -> None:
    world = world_of()
    together, alone = Store(tmp_path / "together"), Store(tmp_path / "alone")
    engine = Heard(together)
    Runner(together, engine).drive(loops(world))
    assert engine.sizes == [4, 4, 4, 1]  # rounds of the seeds; the control, which waits for one
    for name, trial in loops(world).items():
        Runner(alone, Inline(alone)).drive({name: trial})
    assert results(together) == results(alone)


@needs_fork
def test_processes_share_company_out_and_reach_the_same(tmp_path: Path) -> None:
    world = world_of()
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    Runner(here, Inline(here)).drive(loops(world))
    engine = Processes(there, 2)
    runner = Runner(there, engine)
    runner.drive(loops(world))
    engine.close()
    assert results(here) == results(there)


def ready(count: int, **changes: Any) -> tuple[list[Train], World]:
    world = world_of(**changes)
    jobs = []
    for seed in range(count):
        start = Init(world=world, seed=seed).run(NoDesk())
        jobs.append(
            Train(
                world=world,
                seed=seed,
                begin=Point(start.params, None, 0),
                mask=FULL,
                until=world.steps,
                objective=world.objective,
            )
        )
    return jobs, world


def driven(jobs: list[Train]) -> Any:
    return (yield tuple(jobs))


def test_free_workers_share_what_is_ready(tmp_path: Path) -> None:
    jobs, _ = ready(TOGETHER + 3)

    class Four(Heard):
        """As if four workers were free at first."""

        @property
        def room(self) -> int:
            return 4 - len(self.sizes) if len(self.sizes) < 4 else super().room

        def submit(self, jobs: Mapping[str, Job]) -> None:
            self.sizes.append(len(jobs))
            self._waiting = [*getattr(self, "_waiting", []), jobs]
            self._awaited = sum(map(len, self._waiting))

        def wait(self) -> Any:
            if not getattr(self, "_now", 0):
                jobs = self._waiting.pop(0)
                Inline.submit(self, jobs)
                self._now = len(jobs)
            self._now -= 1
            outcome = Inline.wait(self)
            self._awaited = self._now + sum(map(len, self._waiting))
            return outcome

    store = Store(tmp_path / "four")
    engine = Four(store)
    Runner(store, engine).drive({0: driven(jobs)})
    assert engine.sizes == [5, 5, 5, 4]
    store = Store(tmp_path / "one")
    alone = Heard(store)
    Runner(store, alone).drive({0: driven(jobs)})
    assert alone.sizes == [TOGETHER, 3]


def test_no_company_sets_out_while_a_cut_is_making_more_of_it_ready(tmp_path: Path) -> None:
    world = world_of()
    store = Store(tmp_path / "store")

    class Two(Inline):
        """As if two workers were at it: the second submission waits behind the first."""

        def __init__(self) -> None:
            super().__init__(store)
            self.behind: list[Mapping[str, Job]] = []
            self.beside: list[tuple[bool, bool]] = []  # whether a training, beside a cut
            self.at: dict[str, Job] = {}

        @property
        def room(self) -> int:
            return 2 - bool(self._awaited) - len(self.behind)

        def submit(self, jobs: Mapping[str, Job]) -> None:
            trains = all(job.steps for job in jobs.values())
            self.beside.append((trains, not all(job.steps for job in self.at.values())))
            self.at.update(jobs)
            if self._awaited:
                self.behind.append(jobs)
            else:
                super().submit(jobs)

        def wait(self) -> Any:
            outcome = super().wait()
            del self.at[outcome.key]
            if not self._awaited and self.behind:
                super().submit(self.behind.pop())
            return outcome

    engine = Two()
    Runner(store, engine).drive(loops(world))
    assert {beside for trains, beside in engine.beside if trains} == {False}
    assert True in {beside for trains, beside in engine.beside if not trains}


def test_company_is_what_can_share_a_stack() -> None:
    jobs, _ = ready(2)
    one, other = jobs
    assert one.company is not None
    assert one.company == other.company
    point = Point(one.begin.params, one.begin.params, 0)
    for changed in (
        replace(one, until=20),
        replace(one, begin=replace(one.begin, step=5)),
        replace(one, begin=point),
        replace(one, world=world_of(steps=41)),
    ):
        assert changed.company != one.company
    assert replace(one, world=small_world(model=net)).company is None


def test_the_one_at_fault_is_found_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: Any
) -> None:
    jobs, _ = ready(3)
    keys = [job_key(job) for job in jobs]
    plain = Train._result

    def failing(self: Train, *arguments: Any) -> Any:
        if self.seed == 1:
            raise ValueError("of seed 1")
        return plain(self, *arguments)

    monkeypatch.setattr(Train, "_result", failing)
    store = Store(tmp_path / "store")
    engine = Inline(store)
    engine.submit(dict(zip(keys, jobs, strict=True)))
    outcomes = {outcome.key: outcome.error for outcome in (engine.wait() for _ in jobs)}
    assert [type(outcomes[key]).__name__ for key in keys] == ["NoneType", "ValueError", "NoneType"]
    assert engine.room == 1


@pytest.mark.parametrize("stop", [5, 20, 35])
def test_a_stack_cut_off_anywhere_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Also where the last checkpoint of only some of them was written."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    jobs, world = ready(3)
    keys = [job_key(job) for job in jobs]
    calm, stormy = Store(tmp_path / "calm"), Store(tmp_path / "stormy")
    for key, job in zip(keys, jobs, strict=True):
        engine = Inline(calm)
        engine.submit({key: job})
        assert engine.wait().error is None
    plain = Store.keep

    def cut(self: Store, trajectory: str, leg: Any, pinned: bool) -> None:
        plain(self, trajectory, leg, pinned)
        if leg.step == stop and trajectory == jobs[1].trajectory:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "keep", cut)
        engine = Inline(stormy)
        engine.submit(dict(zip(keys, jobs, strict=True)))
        engine.wait()
    legs = [stormy.resume(job.trajectory, job.until) for job in jobs]
    assert [0 if leg is None else leg.step for leg in legs] == [stop, stop, stop - 5]
    engine = Inline(stormy)
    engine.submit(dict(zip(keys, jobs, strict=True)))
    assert [engine.wait().error for _ in jobs] == [None] * 3
    steps = [stormy.context(key)["steps"] for key in keys]
    assert steps == [world.steps - stop, world.steps - stop, world.steps - stop + 5]
    assert results(stormy) == results(calm)
    assert [stormy.resume(job.trajectory, job.until) for job in jobs] == [None] * 3


@needs_fork
def test_a_killed_worker_is_replaced_for_what_it_had_not_ended(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    text = str(marks)

    def kill_once(module: nn.Module, inputs: Any) -> None:
        if module.training and not Path(text).exists():
            Path(text).write_text("x")
            signal.raise_signal(signal.SIGKILL)

    def killing() -> nn.Module:
        network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        network.register_forward_pre_hook(kill_once)
        return network

    marks.write_text("not yet")
    jobs, _ = ready(2, model=killing)
    marks.unlink()
    store = Store(tmp_path / "store")
    engine = Processes(store, 1)
    Runner(store, engine).drive({0: driven(jobs)})
    engine.close()
    assert marks.exists()
    marks.write_text("no more")
    alone = Store(tmp_path / "alone")
    for job in jobs:
        Runner(alone, Inline(alone)).drive({0: driven([job])})
    assert results(store) == results(alone)
