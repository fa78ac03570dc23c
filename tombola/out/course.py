"""What a study has come to, and how long it will take, from its events."""

import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from tombola.lab.events import Advanced, Asked, Ended, Event, Finished, Opened, Started, Turns
from tombola.lab.question import Trial
from tombola.lab.runner import Share
from tombola.out.amounts import duration, several
from tombola.pieces.schedule import Target
from tombola.recipes.job import Job

WINDOW = 60.0  # seconds over which speed is measured
LEAST_WINDOW = 2.0


@dataclass(eq=False)
class Work:
    """A job that trials wait for. owner: the first to ask for it. target: of its round. heard:
    whether it has told where it starts. stored: somebody else made it. planned: the store did not
    answer when it was asked for. value: the last validation metric."""

    job: Job
    owner: "Row"
    target: Target | None
    done: int = 0
    heard: bool = False
    running: bool = False
    finished: bool = False
    stored: bool = False
    planned: bool = True
    diverged: bool = False
    value: float | None = None

    @property
    def trains(self) -> bool:
        return self.job.kind == "train"

    @property
    def left(self) -> int:
        return 0 if self.finished else self.job.steps - self.done


@dataclass(eq=False)
class Row:
    """A trial. share: its planned part of the work. chain: steps it had still to wait for when it
    asked for what it waits for now. target: of the round it is at. value: the last validation
    metric. fresh: whether something it waited for was computed now."""

    trial: Trial
    share: Share
    chain: int = 0
    target: Target | None = None
    own: list[Work] = field(default_factory=list)
    wanted: list[Work] = field(default_factory=list)
    value: float | None = None
    fresh: bool = False
    diverged: bool = False
    ended: bool = False

    @property
    def running(self) -> list[Work]:
        return [work for work in self.own if work.running]

    @property
    def state(self) -> str:
        if self.ended:
            return "diverged" if self.diverged else "done" if self.fresh else "from the store"
        return "running" if self.running else "waiting"

    def concerns(self, work: Work) -> bool:
        """Whether a training is of this trial: a control waits for the ticket's, too."""
        return work.trains and (self.trial.round is None or work.owner is self)

    def take(self, work: Work) -> None:
        """A job that it waited for is finished."""
        self.fresh |= not work.stored
        if self.concerns(work):
            self.diverged = work.diverged
            self.value = self.value if work.value is None else work.value

    @property
    def steps_left(self) -> int:
        """Of its own: as planned, but not less than it has asked for."""
        if self.ended:
            return 0
        made = sum(work.job.steps - work.left for work in self.own if work.planned)
        return max(self.share.steps - made, sum(work.left for work in self.own))

    @property
    def trainings_left(self) -> int:
        if self.ended:
            return 0
        own = [work.finished for work in self.own if work.trains and work.planned]
        return max(self.share.trainings, len(own)) - sum(own)

    @property
    def asked(self) -> int:
        """Steps of the longest training it waits for now."""
        return max((work.job.steps for work in self.wanted if work.planned), default=0)

    @property
    def chain_left(self) -> int:
        """Steps that must be made one after the other before it can end."""
        left = max((work.left for work in self.wanted), default=0)
        return 0 if self.ended else max(self.chain - self.asked + left, left)


class Pace:
    """How fast steps are made, over the last minute. made: steps since the start."""

    def __init__(self, now: float) -> None:
        self.made = 0
        self._now, self._running, self._busy = now, 0, 0.0
        self._marks = deque([(now, 0, 0.0)])

    def note(self, now: float, running: int) -> None:
        """So many trainings run from now on."""
        self._busy += self._running * (now - self._now)
        self._now, self._running = now, running
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, self.made, self._busy))
        while len(self._marks) > 1 and now - self._marks[1][0] >= WINDOW:
            self._marks.popleft()

    def seconds(self, steps: int, chain: int) -> float | None:
        """As long as all steps take at the speed of all trainings together, but not less than a
        chain of trainings that wait for one another takes at the speed of one. None while there is
        too little to tell from.

        >>> pace = Pace(0.0)
        >>> pace.note(0.0, running=2)
        >>> pace.made = 1_000
        >>> pace.note(10.0, running=2)  # 100 steps a second, 50 for each training
        >>> pace.seconds(500, chain=100), pace.seconds(500, chain=400)
        (5.0, 8.0)
        """
        if not steps:
            return 0.0
        began, before, busy = self._marks[0]
        made = self.made - before
        if self._now - began < LEAST_WINDOW or not made:
            return None
        together, one = (self._now - began) / made, (self._busy - busy) / made
        return max(steps * together, chain * one)


class Course:
    """What a study has come to, from its events. A watcher.

    clock: seconds. metric: the one shown, of validation. rounds: number of the last one, None where
    nothing was planned (a training alone).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.rows: dict[Hashable, Row] = {}
        self.works: dict[str, Work] = {}
        self.metric = "accuracy"
        self.rounds: int | None = None
        self._start = clock()
        self._running = 0
        self._looked_up: Mapping[str, Job] = {}  # what the store answers, it answers at once
        self._turns = Turns()
        self._pace = Pace(self._start)

    def __call__(self, event: Event) -> None:
        self._turns(event)
        match event:
            case Opened():
                self._open(event)
            case Asked():
                self._ask(event)
            case Started():
                self._begin(self.works[event.key])
            case Advanced():
                self._advance(self.works[event.key], event)
            case Finished():
                self._finish(self.works[event.key], event)
            case Ended():
                self._end(self.rows[event.trial], event)
        if not isinstance(event, (Asked, Finished)):
            self._looked_up = {}
        self._pace.note(self.clock(), self._running)

    def _open(self, event: Opened) -> None:
        question = event.question
        names = [metric.name for metric in question.world.objective.metrics]
        self.metric = "accuracy" if "accuracy" in names else names[0]
        self.rounds = question.targets[-1].round
        for trial, share in event.planned.shares.items():
            assert isinstance(trial, Trial)
            row = self.rows[trial] = Row(trial, share, chain=share.chain)
            if trial.round is not None:
                row.target = question.target(trial.arm, trial.round)

    def _ask(self, event: Asked) -> None:
        self._looked_up = event.jobs
        assert isinstance(event.trial, Trial)
        row = self.rows.setdefault(event.trial, Row(event.trial, Share()))
        row.chain -= row.asked
        row.wanted, row.ended = [], False
        for key, job in event.jobs.items():
            if key not in self.works:
                self.works[key] = Work(job, row, self._turns.of(job))
                row.own.append(self.works[key])
            work = self.works[key]
            row.wanted.append(work)
            if row.trial.round is None:
                row.target = work.target or row.target
            if work.finished:  # for another trial, before this one asked
                row.take(work)

    def _begin(self, work: Work) -> None:
        self._running += work.trains and not work.running
        # What the store had may turn out to be damaged, and is then made again.
        work.running, work.finished, work.stored, work.planned = True, False, False, True

    def _advance(self, work: Work, event: Advanced) -> None:
        if work.heard:  # else it tells where it starts, which took no time now
            self._pace.made += max(0, event.done - work.done)
        work.done, work.heard = event.done, True
        work.value = work.owner.value = event.metrics.get(self.metric, work.owner.value)

    def _finish(self, work: Work, event: Finished) -> None:
        if event.stored and work.finished:
            return  # the trials are driven again, after damage was found in the end
        if work.trains:
            work.diverged = event.result.diverged
            for reading in event.result.readings[-1:]:
                work.value = reading.get(self.metric)
        if not event.stored and not work.diverged:
            self._pace.made += work.left
            work.done = work.job.steps
        self._running -= work.trains and work.running
        work.running, work.finished, work.stored = False, True, event.stored
        work.planned = not (event.stored and event.key in self._looked_up)
        for row in self.rows.values():
            if work in row.wanted:
                row.take(work)

    def _end(self, row: Row, event: Ended) -> None:
        row.ended = True
        row.diverged |= event.result == ()  # its ticket diverged, and there is nothing to train

    # -- in all ------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        return self.clock() - self._start

    @property
    def steps_done(self) -> int:
        """Made now, or by an earlier call that did not finish the training they are of."""
        return sum(work.done for work in self.works.values())

    def trainings(self, stored: bool) -> int:
        """How many are finished: from the store, or now."""
        works = self.works.values()
        return sum(work.trains and work.finished and work.stored == stored for work in works)

    @property
    def steps_left(self) -> int:
        """What is planned, less the rounds that a diverged trial will not reach."""
        return sum(row.steps_left for row in self.rows.values())

    @property
    def trainings_left(self) -> int:
        return sum(row.trainings_left for row in self.rows.values())

    @property
    def seconds_left(self) -> float | None:
        """None where there is too little to tell from."""
        chains = (row.chain_left for row in self.rows.values())
        return self._pace.seconds(self.steps_left, max(chains, default=0))

    def amounts(self) -> list[str]:
        """How much is done of everything, in words."""
        done, stored = self.trainings(stored=False), self.trainings(stored=True)
        return [
            f"{self.steps_done:,} of {several(self.steps_done + self.steps_left, 'step')}",
            f"{done} of {several(done + self.trainings_left, 'training')} done",
            f"{self._running} running",
            *([f"{stored} from the store"] if stored else []),
        ]

    def times(self) -> list[str]:
        """How long it has taken and will take, in words."""
        left = self.seconds_left
        said = [] if left is None else [f"about {duration(left)} left"]
        return [*said, f"{duration(self.elapsed)} so far"]
