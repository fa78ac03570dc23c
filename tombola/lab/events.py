"""What happens while trials are driven, told to whoever watches.

A watcher is any function of one event: `print` is one, and so is the `append` of a list. All are
called in the driver's process, never in a job's, one event after the other; a watcher must not
raise, and what it takes its time for, the engine waits for.

Order: `Opened` and `Answered` enclose a study. A job is asked for (`Asked`, by each trial that
waits for it), started, advances and is finished; one that the store answers is asked for and
finished. `Ended` follows when a trial asks for nothing more.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tombola.pieces.schedule import DENSE, Target
from tombola.recipes.job import Job
from tombola.recipes.jobs import Prune, Train
from tombola.values.mask import FULL

if TYPE_CHECKING:
    from tombola.lab.question import Question
    from tombola.lab.runner import Tally


@dataclass(frozen=True)
class Opened:
    """A study is about to be run; `planned` is what it will take."""

    question: "Question"
    planned: "Tally"


@dataclass(frozen=True)
class Asked:
    """A trial waits for jobs, by key; others may wait for the same ones."""

    trial: Hashable
    jobs: Mapping[str, Job]


@dataclass(frozen=True)
class Started:
    """The engine has taken a job on."""

    key: str


@dataclass(frozen=True)
class Advanced:
    """A running job has made `done` of its steps, several times a second at most.

    The first one tells where the training starts: at 0, or where an unfinished one had come to. A
    job whose process was killed starts once more, so `done` may fall. metrics: of the last
    validation reading, empty before there is one.
    """

    key: str
    done: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Finished:
    """A job's result is there; `stored`: the store had it."""

    key: str
    job: Job
    result: Any
    stored: bool


@dataclass(frozen=True)
class Ended:
    """A trial's loop has returned."""

    trial: Hashable
    result: Any


@dataclass(frozen=True)
class Answered:
    """A study is judged and kept; see `Study` for the two."""

    document: Mapping[str, Any]
    facts: Mapping[str, Any]


Event = Opened | Asked | Started | Advanced | Finished | Ended | Answered
Watcher = Callable[[Event], None]


def nobody(event: Event) -> None:
    """A watcher that does not look."""


def together(watchers: Sequence[Watcher]) -> Watcher:
    """Several watchers as one, told in order.

    >>> heard = []
    >>> together([heard.append, heard.append])(Started("k"))
    >>> heard
    [Started(key='k'), Started(key='k')]
    """

    def tell(event: Event) -> None:
        for watcher in watchers:
            watcher(event)

    return tell


class Turns:
    """Which round a training is of: told by the cut that made its mask. A watcher."""

    def __init__(self) -> None:
        self._targets: dict[tuple[int, str], Target] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Finished) and isinstance(event.job, Prune):
            self._targets[event.job.seed, event.result.mask.digest] = event.job.target

    def of(self, job: Job) -> Target | None:
        """None for what does not train, and for a mask that no rule has cut (of most controls)."""
        if not isinstance(job, Train):
            return None
        uncut = DENSE if job.mask.digest == FULL.digest else None
        return self._targets.get((job.seed, job.mask.digest), uncut)
