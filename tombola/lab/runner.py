"""Drives all trials of a study side by side: look up, compute, record, resume; or only plan."""

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tombola.errors import DamagedObjectError, WorkError
from tombola.lab.engines.engine import Engine
from tombola.lab.store import Store
from tombola.recipes.job import Job, Loop, job_key

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Pending:
    """A handle of a result that does not exist yet; its digest is of the call, not of content."""

    digest: str

    def load(self) -> Any:
        raise AssertionError(f"{self.digest} is a placeholder of a plan; it has no content")


@dataclass
class Tally:
    """What a drive did, or would do.

    stored: answered from the store; run: computed here. longest: steps of the longest chain of
    trainings that wait for one another (of a plan only).
    """

    stored: dict[str, Job] = field(default_factory=dict)
    run: dict[str, Job] = field(default_factory=dict)
    longest: int = 0


@dataclass
class _Trial:
    """A loop that waits for results. wanted: keys in the order asked; single: not a tuple."""

    loop: Loop[Any]
    wanted: list[str] = field(default_factory=list)
    single: bool = True
    chain: int = 0


class Runner:
    """Answers jobs from the store, keeps one of several equal jobs in flight, gives the rest to an
    engine. `engine=None` plans: jobs that are not stored get a placeholder."""

    def __init__(
        self,
        store: Store,
        engine: Engine | None,
        started: Callable[[Job], None] = lambda job: None,
        finished: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._store, self._engine = store, engine
        self._started, self._finished = started, finished
        self.tally = Tally()
        self._results: dict[str, Any] = {}
        self._jobs: dict[str, Job] = {}
        self._queue: deque[str] = deque()
        self._in_flight: set[str] = set()
        self._makers: dict[str, str] = {}  # digest of an object -> key of the job that makes it
        self._blocked: dict[str, set[str]] = {}  # job -> those it waits for after damage
        self._remade: set[tuple[str, str]] = set()  # (job, object): tried once, not for ever

    def drive(self, trials: Mapping[K, Loop[Any]]) -> dict[K, Any]:
        """Run every loop to its end; returns what each returned.

        Raises:
            WorkError: a job failed; others that were running are stopped, finished work is kept.
        """
        waiting = {name: _Trial(loop) for name, loop in trials.items()}
        ends: dict[K, Any] = {}
        for name, trial in list(waiting.items()):
            self._advance(name, trial, None, waiting, ends)
        while waiting:
            self._feed()
            self._settle()
            for name, trial in list(waiting.items()):
                if all(key in self._results for key in trial.wanted):
                    got = tuple(self._results[key] for key in trial.wanted)
                    self._advance(name, trial, got[0] if trial.single else got, waiting, ends)
        return ends

    def _advance(
        self, name: K, trial: _Trial, sent: Any, waiting: dict[K, _Trial], ends: dict[K, Any]
    ) -> None:
        """Send results into a loop until it asks for something that is not there."""
        while True:
            try:
                asked = trial.loop.send(sent)
            except StopIteration as stop:
                ends[name] = stop.value
                self.tally.longest = max(self.tally.longest, trial.chain)
                del waiting[name]
                return
            trial.single = not isinstance(asked, tuple)
            jobs = (asked,) if trial.single else asked
            trial.wanted = [self._ask(job) for job in jobs]
            trial.chain += max(
                (self.tally.run[key].steps for key in trial.wanted if key in self.tally.run),
                default=0,
            )
            if not all(key in self._results for key in trial.wanted):
                return
            got = tuple(self._results[key] for key in trial.wanted)
            sent = got[0] if trial.single else got

    def _ask(self, job: Job) -> str:
        """Look a job up, or put it in line; equal jobs are one."""
        key = job_key(job)
        if key in self._jobs:
            return key
        self._jobs[key] = job
        found = self._store.recall(key, type(job.placeholder(Pending)))
        if found is not None:
            self.tally.stored[key] = job
            self._has(key, found)
        elif self._engine is None:
            self.tally.run[key] = job
            self._has(key, job.placeholder(lambda part: Pending(f"pending:{part}:{key}")))
        else:
            self._queue.append(key)
        return key

    def _has(self, key: str, result: Any) -> None:
        self._results[key] = result
        for part in vars(result).values():
            if isinstance(getattr(part, "digest", None), str):
                self._makers.setdefault(part.digest, key)

    def _feed(self) -> None:
        """Hand waiting jobs to the engine, those asked for first first."""
        assert self._engine is not None
        ready = [key for key in self._queue if not self._blocked.get(key)]
        for key in ready:
            if not self._engine.has_room():
                return
            self._queue.remove(key)
            self._in_flight.add(key)
            self._started(self._jobs[key])
            self._engine.submit(key, self._jobs[key])

    def _settle(self) -> None:
        """Take in the next finished job, if one is running."""
        assert self._engine is not None
        if not self._in_flight:
            return
        finished = self._engine.wait()
        self._in_flight.discard(finished.key)
        if isinstance(finished.error, DamagedObjectError):
            self._make_again(finished.key, finished.error)
            return
        if finished.error is not None:
            raise finished.error
        job = self._jobs[finished.key]
        result = self._store.recall(finished.key, type(job.placeholder(Pending)))
        if result is None:
            raise WorkError(
                f"the result of a {job.kind} job could not be read back from the store: "
                "something else writes into it. Repeat the command."
            )
        self.tally.run[finished.key] = job
        self._finished(job)
        self._has(finished.key, result)
        for others in self._blocked.values():
            others.discard(finished.key)

    def _make_again(self, key: str, error: DamagedObjectError) -> None:
        """An input of a job was damaged: compute it again, then the job."""
        maker = self._makers.get(error.digest)
        if maker is None or (key, error.digest) in self._remade:
            raise error
        self._remade.add((key, error.digest))
        self._store.forget(maker)
        self.tally.stored.pop(maker, None)
        if maker not in self._queue and maker not in self._in_flight:
            self._queue.appendleft(maker)
        self._blocked.setdefault(key, set()).add(maker)
        self._queue.append(key)
