"""What a store could do without: found by marking what its studies need, then taken away.

A file stays when a stored study needs it, when an interrupted study goes on from it, or when it was
used lately. Files go in an order of which every beginning leaves a sound store: a study before its
results, a call's record before the tensors it names. So a kill half-way costs nothing, and the next
sweep takes the rest.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tombola.lab.presence import Command
from tombola.lab.store import Held, Store

HOUR = 3600.0
TICK = 1.0  # seconds by which the clock of a file system may lag behind ours
RESULTS = ("calls", "objects", "checkpoints", "legs")
ORDER = ("work", "studies", "probes", "reports", *RESULTS, "damaged", "temporary", "claims")


class Why(Enum):
    """Why a file stays; the value is what people are told."""

    NEEDED = "stored studies need it"
    EARLY = "an early state of a stored training, from which studies that rewind go on"
    INTERRUPTED = "an interrupted study goes on from it, or one at work"
    LOST = "the record of a study is damaged, so what it needs is not known"
    LATELY = "used lately"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What could go, in the order in which it may, and what stays.

    dropped: digests of the studies given up. interrupted: commands whose studies are unfinished.
    lost: digests of studies whose records are damaged. steps, seconds: what the results that could
    go took, as noted when they were computed.
    """

    going: tuple[Held, ...]
    staying: tuple[tuple[Held, Why], ...]
    dropped: tuple[str, ...]
    interrupted: tuple[Command, ...]
    lost: tuple[str, ...]
    steps: int
    seconds: float


class _Marks(dict[tuple[str, str], Why]):
    """Part and name of a file -> why it stays; the first reason given counts."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def mark(self, part: str, name: str, why: Why) -> None:
        self.setdefault((part, name), why)

    def file(self, held: Held, why: Why) -> None:
        """A file, and what it names."""
        if held.part == "calls":
            self.call(held.name, why)
        else:
            self.mark(held.part, held.name, why)

    def call(self, key: str, why: Why) -> None:
        """A call's record, and what it names."""
        self.mark("calls", key, why)
        for name in self._store.objects_of(key):
            self.mark("objects", name, why)

    def study(self, name: str, facts: Mapping[str, Any]) -> None:
        """A stored study and its probes: their calls, and states of their trainings that others may
        go on from.

        The checkpoints of its trainings are not among them: all of these are finished.
        """
        self.mark("studies", name, Why.NEEDED)
        self.mark("reports", name, Why.NEEDED)
        for key in facts["calls"]:
            self.call(key, Why.NEEDED)
        for trial in facts["trials"]:
            for part in ("init", "mask", "units", "params"):
                if trial.get(part):  # most tickets have no units
                    self.mark("objects", trial[part], Why.NEEDED)
        for trajectory in facts["trainings"]:
            self.mark("legs", trajectory, Why.EARLY)
        self.mark("probes", name, Why.NEEDED)
        for found in self._store.probes(name):
            for key in found["facts"]["calls"]:
                self.call(key, Why.NEEDED)
            for trajectory in found["facts"]["trainings"]:
                self.mark("legs", trajectory, Why.EARLY)

    def command(self, command: Command) -> None:
        """A command at work, or one that was interrupted: what it had asked for."""
        self.mark("work", command.path.name, Why.INTERRUPTED)
        for key in command.calls:
            self.call(key, Why.INTERRUPTED)
        for trajectory in command.trainings:
            self.mark("legs", trajectory, Why.INTERRUPTED)
            self.mark("checkpoints", trajectory, Why.INTERRUPTED)


def droppable(store: Store) -> list[str]:
    """Digests of all studies one may give up: interrupted, damaged, stored (the latest last)."""
    begun = {command.study for command in store.commands() if command.study}
    stored = store.studies()
    return [*sorted((begun | store.lost_studies()) - set(stored)), *stored]


def sweep(store: Store, drop: Collection[str] = (), *, unused_for: float = HOUR) -> Sweep:
    """Look what could go; takes nothing away.

    drop: digests of studies to be given up; what they alone need goes however lately it was used,
    unless by a command that is at work. unused_for: seconds for which anything else was not used.
    """
    # Commands before studies: one that ends meanwhile has stored its study by then.
    now, commands = time.time(), store.commands()
    stored = {name: store.read_study(name) for name in store.studies()}
    lost = store.lost_studies() - set(drop)
    interrupted = [c for c in commands if not c.alive and c.study and c.study not in stored]

    marks, given_up = _Marks(store), _Marks(store)
    for name, content in stored.items():
        if content is not None:
            (given_up if name in drop else marks).study(name, content["facts"])
    for command in commands:
        if command.alive or command in interrupted:
            (given_up if command.study in drop and not command.alive else marks).command(command)

    at_work = min((command.began for command in commands if command.alive), default=now)
    since = min(now - max(unused_for, TICK), at_work)
    files = list(store.files())
    for held in files:
        given = (held.part, held.name) in given_up or _study_of(held) in drop
        if held.used >= (at_work if given else since) * 1e9:
            marks.file(held, Why.LATELY)
        elif lost and (held.part in RESULTS or _study_of(held) in lost):
            marks.file(held, Why.LOST)
    going = [held for held in files if (held.part, held.name) not in marks]
    contexts = [store.context(held.name) for held in going if held.part == "calls"]
    return Sweep(
        going=tuple(sorted(going, key=lambda held: ORDER.index(held.part))),
        staying=tuple(
            (held, marks[held.part, held.name]) for held in files if (held.part, held.name) in marks
        ),
        dropped=tuple(drop),
        interrupted=tuple(c for c in interrupted if c.study not in drop),
        lost=tuple(sorted(lost)),
        steps=sum(context.get("steps", 0) for context in contexts),
        seconds=sum(context.get("seconds", 0.0) for context in contexts),
    )


def _study_of(held: Held) -> str | None:
    """The study a file is the record, a damaged record, a probe, or the report of."""
    if held.part in ("studies", "probes", "reports"):
        return held.name
    of_study = held.part == "damaged" and held.name.startswith("studies-")
    return held.name.removeprefix("studies-")[:64] if of_study else None


def free(store: Store, found: Sweep) -> int:
    """Take away what could go, unless it was used since; returns the bytes freed."""
    return sum(store.remove(held) for held in found.going)
