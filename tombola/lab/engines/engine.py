"""The contract of an engine, and the work one process does for a job."""

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from tombola.lab.store import Store
from tombola.recipes.job import Job
from tombola.recipes.jobs import Train, run_together
from tombola.train.leg import Leg

SAY_EVERY = 0.1  # seconds; as often as a display is drawn
Say = Callable[[str, int, Mapping[str, float]], None]  # key, steps done, last reading


@dataclass(frozen=True)
class Outcome:
    """A job's end: `error` is None when its result is in the store under `key`."""

    key: str
    error: BaseException | None = None


class Engine(Protocol):
    """Takes jobs, says when one is finished; results go through the store."""

    @property
    def room(self) -> int:
        """How many submissions it could start on now."""
        ...

    def submit(self, jobs: Mapping[str, Job]) -> None:
        """Take on one job by its key, or several trainings of one `company` for one worker to
        advance together; each has an outcome of its own."""
        ...

    def wait(self) -> Outcome:
        """The next job to finish; only called while something is submitted."""
        ...

    def close(self) -> None:
        """Stop what is running; finished work is kept."""
        ...


class StoreDesk:
    """What a running job may use: the store's drawer of unfinished trainings, and a voice."""

    def __init__(self, store: Store, key: str, say: Say) -> None:
        self._store, self._say = store, partial(say, key)
        self._said = time.monotonic()
        self.skipped = 0  # steps an earlier, unfinished run had already made
        self._reached: dict[str, int] = {}

    def resume(self, trajectory: str, begin: int, until: int) -> Leg | None:
        self._reached[trajectory] = until
        leg = self._store.resume(trajectory, until)
        self.skipped = 0 if leg is None else leg.step - begin
        self._say(self.skipped, {})
        return leg

    def keep(self, trajectory: str, leg: Leg, pinned: bool) -> None:
        self._store.keep(trajectory, leg, pinned)

    def tick(self, done: int, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self._said >= SAY_EVERY:
            self._said = now
            self._say(done, metrics)

    def done(self) -> None:
        for trajectory, until in self._reached.items():
            self._store.finished(trajectory, until)


def work(store: Store, jobs: Mapping[str, Job], say: Say) -> Iterator[Outcome]:
    """Run jobs and store their results; `say` is told how far each is (see `Advanced`).

    Several are trainings to be advanced together. What fails so is tried one by one, from the last
    checkpoints on, and the one at fault is found out.
    """
    desks = {key: StoreDesk(store, key, say) for key in jobs}
    began = time.perf_counter()
    results = _together(jobs, desks) if len(jobs) > 1 else {}
    share = (time.perf_counter() - began) / len(jobs)
    for key, job in jobs.items():
        try:
            began = time.perf_counter()
            result = results[key] if key in results else job.run(desks[key])
            seconds = share if key in results else time.perf_counter() - began
            _record(store, key, job, result, desks[key], seconds)
        except Exception as error:
            yield Outcome(key, error)
        else:
            yield Outcome(key)


def _together(jobs: Mapping[str, Job], desks: Mapping[str, StoreDesk]) -> dict[str, Any]:
    """Results by key; none where the trainings failed."""
    trainings = [job for job in jobs.values() if isinstance(job, Train)]
    try:
        return dict(zip(jobs, run_together(trainings, list(desks.values())), strict=True))
    except Exception:
        return {}


def _record(store: Store, key: str, job: Job, result: Any, desk: StoreDesk, seconds: float) -> None:
    context = {
        "seconds": round(seconds, 4),
        "steps": job.steps - desk.skipped,
        "host": platform.node(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    store.record(key, job.kind, result, context)
    desk.done()
