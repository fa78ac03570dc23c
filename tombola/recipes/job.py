"""A job: one expensive call on values, named by everything its result depends on."""

from collections.abc import Generator, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar

from tombola.errors import RecipeError
from tombola.train.leg import Leg
from tombola.values.digest import canonical, digest

R = TypeVar("R")

# A recipe's loop: yields a job, or a tuple of jobs that may run side by side, and is sent the
# result, or the tuple of results.
Loop = Generator[Any, Any, R]


class Desk(Protocol):
    """What a running job may use of the outside: unfinished work of its own, and a voice."""

    def resume(self, trajectory: str, begin: int, until: int) -> Leg | None:
        """The furthest stored state of this training from `begin`, not past `until`."""
        ...

    def keep(self, trajectory: str, leg: Leg, pinned: bool) -> None:
        """Store a state; a pinned one stays when the training is finished."""
        ...

    def tick(self, done: int, metrics: Mapping[str, float]) -> None:
        """So many of the job's steps are done; `metrics` is the last validation reading, empty
        before the first. Called at every step."""
        ...


class Job(Protocol):
    """A frozen dataclass with a kind, a version and one pure function.

    `version` is raised whenever the same fields would give another result.
    """

    kind: ClassVar[str]
    version: ClassVar[int]

    def run(self, desk: Desk) -> Any:
        """The result, a record (see `Record`)."""
        ...

    def placeholder(self, pending: Any) -> Any:
        """The result with handles of unknown content, for planning."""
        ...

    @property
    def steps(self) -> int:
        """Optimiser steps this takes from its start; 0 for what does not train."""
        ...


class Record(Protocol):
    """What a job returns: a frozen dataclass of JSON data and of handles of Params and Mask."""


def job_key(job: Job, leave_out: frozenset[str] = frozenset()) -> str:
    """Digest of kind, version and all fields; inputs count by content, not by where they are."""
    named: dict[str, object] = {
        field.name: getattr(job, field.name)
        for field in fields(job)  # type: ignore[arg-type]
        if field.name not in leave_out
    }
    return digest(["call", job.kind, job.version, canonical(named)])


def jobs_in(asked: Any) -> tuple[Job, ...]:
    """What a loop asked for at once: a job, or a tuple of them.

    Raises:
        RecipeError: it asked for something else.
    """
    jobs = asked if isinstance(asked, tuple) else (asked,)
    for job in jobs:
        if not hasattr(job, "placeholder") or isinstance(job, type):
            raise RecipeError(
                f"a recipe's loop asked for {job!r:.60}; want a job such as Train(...), or a tuple "
                "of jobs."
            )
    return jobs


class NoDesk:
    """A desk without a drawer: nothing resumed, nothing kept. For running a job by itself."""

    def resume(self, trajectory: str, begin: int, until: int) -> Leg | None:
        return None

    def keep(self, trajectory: str, leg: Leg, pinned: bool) -> None:
        return None

    def tick(self, done: int, metrics: Mapping[str, float]) -> None:
        return None
