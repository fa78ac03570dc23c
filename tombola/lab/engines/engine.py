"""The contract of an engine, and the work one process does for a job."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from tombola.lab.store import Store
from tombola.recipes.job import Job
from tombola.train.leg import Leg

SAY_EVERY = 0.1  # seconds; as often as a display is drawn
Say = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Outcome:
    """A job's end: `error` is None when its result is in the store under `key`."""

    key: str
    error: BaseException | None = None


class Engine(Protocol):
    """Takes jobs, says when one is finished; results go through the store."""

    def has_room(self) -> bool: ...

    def submit(self, key: str, job: Job) -> None: ...

    def wait(self) -> Outcome:
        """The next job to finish; only called while something is submitted."""
        ...

    def close(self) -> None:
        """Stop what is running; finished work is kept."""
        ...


class StoreDesk:
    """What a running job may use: the store's drawer of unfinished trainings, and a voice."""

    def __init__(self, store: Store, say: Say) -> None:
        self._store, self._say = store, say
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


def work(store: Store, key: str, job: Job, say: Say) -> None:
    """Run a job and store its result; `say` is told how far it is (see `Advanced`)."""
    desk = StoreDesk(store, say)
    began = time.perf_counter()
    result = job.run(desk)
    context = {
        "seconds": round(time.perf_counter() - began, 4),
        "steps": job.steps - desk.skipped,
        "host": platform.node(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    store.record(key, job.kind, result, context)
    desk.done()
