"""One forked process per job, or per trainings in company, as many at once as asked for.

A fork inherits the job, the world and its data in memory, so nothing is sent and nothing has to be
importable: a class of a notebook trains as well as one of a package. It costs some 15 ms, against
half a second and more for a training. The result travels through the store; the pipe carries only
how far the job is and the text of an error.
"""

import functools
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from tombola.errors import TombolaError, WorkError
from tombola.lab.engines.engine import Outcome, work
from tombola.lab.events import Advanced, Watcher, nobody
from tombola.lab.store import Store
from tombola.recipes.job import Job

TRIES = 2  # a process killed from outside is tried once more, from its last checkpoint


def can_fork() -> bool:
    """Whether this system forks safely: Linux does; macOS says it does."""
    return sys.platform.startswith("linux")


@functools.cache
def load_compiler() -> None:
    """With its first optimiser a process imports torch's compiler, a second's work.

    Done here, while the first jobs run, every later fork has it: 44 trainings of 60 steps, two at
    once, take 3 s instead of 44.
    """
    torch.optim.SGD([torch.zeros(1)], lr=1.0)


class JobFailedError(WorkError):
    """An error inside a job's process, with the frames of the code that raised it."""


@dataclass
class _Running:
    """A process; jobs: those it has not ended yet."""

    jobs: dict[str, Job]
    process: Any
    pipe: Connection
    tries: int


class Processes:
    """Up to `number` submissions at once, each in a process of its own."""

    def __init__(self, store: Store, number: int, tell: Watcher = nobody) -> None:
        self._store, self._number, self._tell = store, number, tell
        self._running: dict[Connection, _Running] = {}
        self._context = multiprocessing.get_context("fork")

    @property
    def room(self) -> int:
        return self._number - len(self._running)

    def submit(self, jobs: Mapping[str, Job]) -> None:
        self._start(dict(jobs), tries=1)

    def _start(self, jobs: dict[str, Job], tries: int) -> None:
        here, there = self._context.Pipe(duplex=False)
        others = [running.pipe for running in self._running.values()]
        process = self._context.Process(
            target=_work_in_child, args=(self._store, jobs, there, [here, *others]), daemon=True
        )
        # A Ctrl-C that arrives during the fork would be raised inside some at-fork hook, where it
        # is swallowed, or before the process is registered; held back, it is raised right after.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
            there.close()
            self._running[here] = _Running(jobs, process, here, tries)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def wait(self) -> Outcome:
        load_compiler()
        while True:
            for pipe in wait(list(self._running)):
                assert isinstance(pipe, Connection)
                outcome = self._hear(self._running[pipe])
                if outcome is not None:
                    return outcome

    def _hear(self, running: _Running) -> Outcome | None:
        try:
            kind, content = running.pipe.recv()
        except EOFError:
            return self._ended(running)
        if kind == "steps":
            self._tell(Advanced(*content))
            return None
        outcome: Outcome = content
        del running.jobs[outcome.key]
        if not running.jobs:
            self._reap(running)
        return outcome

    def _ended(self, running: _Running) -> Outcome | None:
        """The process went without a word: killed from outside, or by the system for memory."""
        self._reap(running)
        if running.tries < TRIES:
            self._start(running.jobs, running.tries + 1)
            return None
        code = running.process.exitcode
        key, job = next(iter(running.jobs.items()))
        return Outcome(
            key,
            WorkError(
                f"a {job.kind} job's process was ended from outside {TRIES} times (exit "
                f"code {code}; -9 is often the system short of memory). Finished work is kept; try "
                "fewer --jobs."
            ),
        )

    def _reap(self, running: _Running) -> None:
        del self._running[running.pipe]
        running.pipe.close()
        running.process.join()

    def close(self) -> None:
        killed = list(self._running.values())
        for running in killed:
            running.process.kill()
            self._reap(running)
        if killed:  # perhaps in the middle of a file
            self._store.drop_half_written({running.process.pid for running in killed})


def _work_in_child(
    store: Store, jobs: Mapping[str, Job], pipe: Connection, inherited: list[Connection]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    parent, left = os.getppid(), list(jobs)

    def say(key: str, done: int, metrics: Mapping[str, float]) -> None:
        if os.getppid() != parent:
            os._exit(1)  # the driver is gone: nobody would hear the result
        pipe.send(("steps", (key, done, metrics)))

    try:
        for outcome in work(store, jobs, say):
            left.remove(outcome.key)
            pipe.send(("ended", _sendable(outcome, jobs)))
    except BaseException as error:
        pipe.send(("ended", _sendable(Outcome(left[0], error), jobs)))
    finally:
        pipe.close()


def _sendable(outcome: Outcome, jobs: Mapping[str, Job]) -> Outcome:
    """Our own errors as they are; anybody else's as text, which always gets through a pipe."""
    error = outcome.error
    ours = isinstance(error, TombolaError) and type(error).__module__ == TombolaError.__module__
    if error is None or ours:
        return outcome
    text = "".join(traceback.format_exception(error))
    kind = jobs[outcome.key].kind
    return Outcome(outcome.key, JobFailedError(f"{type(error).__name__} in a {kind} job:\n{text}"))
