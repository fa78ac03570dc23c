"""How a study is getting on: a bar where somebody watches, else a line now and then.

Nothing here starts a thread: jobs run in forked processes, and a lock that a thread holds when the
fork happens would be held for ever in the child.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tombola.out.amounts import duration, several

if TYPE_CHECKING:
    from rich.progress import Progress

    from tombola.lab.study import Watcher
    from tombola.recipes.job import Job

LINE_EVERY = 10.0  # seconds
BAR_EVERY = 0.1


@contextmanager
def watching(stream: TextIO, *, steps: int, trainings: int) -> "Iterator[Watcher]":
    """A watcher that tells `stream` how many of so many steps and trainings are done."""
    if not stream.isatty():
        yield Lines(stream, steps, trainings)
        return
    with bar(stream) as progress:
        yield Bar(progress, steps, trainings)


class Lines:
    """A plain line every ten seconds, for logs."""

    def __init__(self, stream: TextIO, steps: int, trainings: int) -> None:
        self._stream, self._total, self._trainings = stream, steps, trainings
        self._done, self._ready = 0, 0
        self._start = self._told = time.monotonic()

    def started(self, job: "Job") -> None:
        return None

    def finished(self, job: "Job") -> None:
        self._ready += job.kind == "train"

    def steps(self, number: int) -> None:
        self._done = min(self._done + number, self._total)
        now = time.monotonic()
        if now - self._told < LINE_EVERY or not self._done:
            return
        self._told = now
        left = (now - self._start) / self._done * (self._total - self._done)
        print(
            f"steps {self._done:,} of {self._total:,}, {self._ready} of {self._trainings} "
            f"trainings done, about {duration(left)} left",
            file=self._stream,
            flush=True,
        )


class Bar:
    """One bar for the whole study, with the time left."""

    def __init__(self, progress: "Progress", steps: int, trainings: int) -> None:
        self._progress, self._trainings, self._drawn = progress, trainings, 0.0
        self._running, self._ready = 0, 0
        self._task = progress.add_task(several(trainings, "training"), total=steps)

    def started(self, job: "Job") -> None:
        self._tell(running=int(job.kind == "train"))

    def finished(self, job: "Job") -> None:
        self._tell(running=-int(job.kind == "train"), ready=int(job.kind == "train"))

    def _tell(self, running: int, ready: int = 0) -> None:
        self._running, self._ready = self._running + running, self._ready + ready
        text = f"{self._ready} of {self._trainings} trainings, {self._running} running"
        self._progress.update(self._task, description=text)

    def steps(self, number: int) -> None:
        self._progress.update(self._task, advance=number)
        if time.monotonic() - self._drawn > BAR_EVERY:
            self._progress.refresh()
            self._drawn = time.monotonic()


def bar(stream: TextIO) -> "Progress":
    """Steps done, and the time left for all of them; gone when it is over."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} steps"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(file=stream),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
