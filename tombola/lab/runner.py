"""Drives all trials of a study side by side: look up, compute, record, resume; or only plan."""

import math
import time
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tombola.errors import DamagedObjectError, RecipeError, WorkError
from tombola.lab.engines.engine import Engine
from tombola.lab.events import Asked, Ended, Finished, Started, Watcher, nobody
from tombola.lab.presence import Claim
from tombola.lab.store import Store
from tombola.recipes.job import Job, Loop, job_key, jobs_in
from tombola.recipes.jobs import company_of

K = TypeVar("K", bound=Hashable)

LOOK_EVERY = 0.05  # seconds, while all that is left is being done by other processes
TOGETHER = 16  # trainings that one worker advances at most


@dataclass(frozen=True)
class Pending:
    """A handle of a result that does not exist yet; its digest is of the call, not of content."""

    digest: str

    def load(self) -> Any:
        raise RecipeError(
            "a loop asked for the content of a result while it was only planned, and there is none "
            "yet. Use it in a job, or, of a probe, in `show`."
        )


@dataclass
class Share:
    """A trial's part in the work that the store does not answer.

    steps, trainings: of what it is the first to ask for. chain: steps of the trainings that it has
    to wait for one after the other, whoever asked for them first.
    """

    steps: int = 0
    trainings: int = 0
    chain: int = 0


@dataclass
class Tally:
    """What a drive did, or would do.

    stored: answered from the store; run: computed here. shares: of each trial.
    """

    stored: dict[str, Job] = field(default_factory=dict)
    run: dict[str, Job] = field(default_factory=dict)
    shares: dict[Hashable, Share] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """Steps of the longest chain of trainings that wait for one another."""
        return max((share.chain for share in self.shares.values()), default=0)


@dataclass
class _Trial:
    """A loop that waits for results. wanted: keys in the order asked; single: not a tuple."""

    loop: Loop[Any]
    share: Share
    wanted: list[str] = field(default_factory=list)
    single: bool = True


class Runner:
    """Answers jobs from the store, keeps one of several equal jobs in flight, here and among the
    processes that share the store, gives the rest to an engine. `engine=None` plans: jobs that are
    not stored get a placeholder. `tell` is told what happens."""

    def __init__(self, store: Store, engine: Engine | None, tell: Watcher = nobody) -> None:
        self._store, self._engine, self._tell = store, engine, tell
        self.tally = Tally()
        self._results: dict[str, Any] = {}
        self._jobs: dict[str, Job] = {}
        self._queue: deque[str] = deque()
        self._company: dict[str, str | None] = {}
        self._in_flight: dict[str, Claim] = {}
        self._makers: dict[str, str] = {}  # digest of an object -> key of the job that makes it
        self._blocked: dict[str, set[str]] = {}  # job -> those it waits for after damage
        self._remade: set[tuple[str, str]] = set()  # (job, object): tried once, not for ever

    def drive(self, trials: Mapping[K, Loop[Any]]) -> dict[K, Any]:
        """Run every loop to its end; returns what each returned.

        Raises:
            WorkError: a job failed; others that were running are stopped, finished work is kept.
        """
        shares = {name: self.tally.shares.setdefault(name, Share()) for name in trials}
        waiting = {name: _Trial(loop, shares[name]) for name, loop in trials.items()}
        ends: dict[K, Any] = {}
        for name, trial in list(waiting.items()):
            self._advance(name, trial, None, waiting, ends)
        try:
            while waiting:
                if not self._feed():
                    self._settle()
                for name, trial in list(waiting.items()):
                    if all(key in self._results for key in trial.wanted):
                        got = tuple(self._results[key] for key in trial.wanted)
                        self._advance(name, trial, got[0] if trial.single else got, waiting, ends)
        finally:
            for claim in self._in_flight.values():
                claim.release()
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
                del waiting[name]
                self._tell(Ended(name, stop.value))
                return
            trial.single = not isinstance(asked, tuple)
            jobs = jobs_in(asked)
            trial.wanted = [job_key(job) for job in jobs]
            wanted = dict(zip(trial.wanted, jobs, strict=True))
            self._tell(Asked(name, wanted))
            for key, job in wanted.items():
                if key not in self._jobs:
                    self._look_up(key, job, trial.share)
            trial.share.chain += max(
                (self.tally.run[key].steps for key in trial.wanted if key in self.tally.run),
                default=0,
            )
            if not all(key in self._results for key in trial.wanted):
                return
            got = tuple(self._results[key] for key in trial.wanted)
            sent = got[0] if trial.single else got

    def _look_up(self, key: str, job: Job, share: Share) -> None:
        """Take a job's result from the store, or put it in line; equal jobs are one."""
        self._jobs[key], self._company[key] = job, company_of(job)
        found = self._recall(key)
        if found is not None:
            self._done(key, found, stored=True)
            return
        share.steps += job.steps
        share.trainings += job.kind == "train"
        if self._engine is None:
            self.tally.run[key] = job
            self._has(key, job.placeholder(lambda part: Pending(f"pending:{part}:{key}")))
        else:
            self._queue.append(key)

    def _has(self, key: str, result: Any) -> None:
        self._results[key] = result
        for part in vars(result).values():
            if isinstance(getattr(part, "digest", None), str):
                self._makers.setdefault(part.digest, key)

    def _recall(self, key: str) -> Any | None:
        return self._store.recall(key, type(self._jobs[key].placeholder(Pending)))

    def _done(self, key: str, result: Any, *, stored: bool) -> None:
        job = self._jobs[key]
        (self.tally.stored if stored else self.tally.run)[key] = job
        self._has(key, result)
        self._tell(Finished(key, job, result, stored=stored))
        for others in self._blocked.values():
            others.discard(key)

    def _feed(self) -> bool:
        """Hand waiting jobs to the engine, those asked for first first, except what another process
        is at. True if others have done some of them meanwhile."""
        assert self._engine is not None
        stored = len(self.tally.stored)
        for key in [key for key in self._queue if not self._blocked.get(key)]:
            if not self._engine.room:
                break
            taken = {other: self._jobs[other] for other in self._with(key) if self._take(other)}
            for other in taken:
                self._tell(Started(other))
            if taken:
                self._engine.submit(taken)
        return len(self.tally.stored) > stored

    def _with(self, key: str) -> list[str]:
        """A waiting job, and those in line that one worker is to advance with it.

        They are spread over all workers that are free. None yet while something short is to be done
        or being done, such as a cut: in a moment it makes more of them ready.
        """
        assert self._engine is not None
        if key not in self._queue:
            return []  # gone with another
        if self._company[key] is None:
            return [key]
        waiting = [other for other in self._queue if not self._blocked.get(other)]
        if not all(self._jobs[other].steps for other in (*waiting, *self._in_flight)):
            return []
        ready = [other for other in waiting if self._company[other] == self._company[key]]
        return ready[: min(TOGETHER, math.ceil(len(ready) / self._engine.room))]

    def _take(self, key: str) -> bool:
        """Claim a waiting job; False if another process is at it, or has done it meanwhile."""
        claim = self._store.claim(key)
        if claim is None:
            return False
        self._queue.remove(key)
        self._in_flight[key] = claim
        found = self._recall(key)
        if found is not None:
            self._in_flight.pop(key).release()
            self._done(key, found, stored=True)
        return found is None

    def _settle(self) -> None:
        """Take in the next finished job, if one is running."""
        assert self._engine is not None
        if not self._in_flight:
            time.sleep(LOOK_EVERY)
            return
        outcome = self._engine.wait()
        self._in_flight.pop(outcome.key).release()
        if isinstance(outcome.error, DamagedObjectError):
            self._make_again(outcome.key, outcome.error)
            return
        if outcome.error is not None:
            raise outcome.error
        result = self._recall(outcome.key)
        if result is None:
            kind = self._jobs[outcome.key].kind
            raise WorkError(
                f"the result of a {kind} job could not be read back from the store: something else "
                "writes into it. Repeat the command."
            )
        self._done(outcome.key, result, stored=False)

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
