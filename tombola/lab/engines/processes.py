"""One forked process per job, as many at once as asked for.

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
def _load_compiler() -> None:
    """With its first optimiser a process imports torch's compiler, a second's work.

    Done here, while the first jobs run, every later fork has it: 44 trainings of 60 steps, two at
    once, take 3 s instead of 44.
    """
    torch.optim.SGD([torch.zeros(1)], lr=1.0)


class JobFailedError(WorkError):
    """An error inside a job's process, with the frames of the code that raised it."""


@dataclass
class _Running:
    key: str
    job: Job
    process: Any
    pipe: Connection
    tries: int


class Processes:
    """Up to `number` jobs at once, each in a process of its own."""

    def __init__(self, store: Store, number: int, tell: Watcher = nobody) -> None:
        self._store, self._number, self._tell = store, number, tell
        self._running: dict[Connection, _Running] = {}
        self._context = multiprocessing.get_context("fork")

    def has_room(self) -> bool:
        return len(self._running) < self._number

    def submit(self, key: str, job: Job) -> None:
        self._start(key, job, tries=1)

    def _start(self, key: str, job: Job, tries: int) -> None:
        here, there = self._context.Pipe(duplex=False)
        others = [running.pipe for running in self._running.values()]
        process = self._context.Process(
            target=_work_in_child, args=(self._store, key, job, there, [here, *others]), daemon=True
        )
        # A Ctrl-C that arrives during the fork would be raised inside some at-fork hook, where it
        # is swallowed, or before the process is registered; held back, it is raised right after.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
            there.close()
            self._running[here] = _Running(key, job, process, here, tries)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def wait(self) -> Outcome:
        _load_compiler()
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
            self._tell(Advanced(running.key, *content))
            return None
        self._reap(running)
        return Outcome(running.key, content if kind == "error" else None)

    def _ended(self, running: _Running) -> Outcome | None:
        """The process went without a word: killed from outside, or by the system for memory."""
        self._reap(running)
        if running.tries < TRIES:
            self._start(running.key, running.job, running.tries + 1)
            return None
        code = running.process.exitcode
        return Outcome(
            running.key,
            WorkError(
                f"a {running.job.kind} job's process was ended from outside {TRIES} times (exit "
                f"code {code}; -9 is often the system short of memory). Finished work is kept; try "
                "fewer --jobs."
            ),
        )

    def _reap(self, running: _Running) -> None:
        del self._running[running.pipe]
        running.pipe.close()
        running.process.join()

    def close(self) -> None:
        for running in list(self._running.values()):
            running.process.kill()
            self._reap(running)


def _work_in_child(
    store: Store, key: str, job: Job, pipe: Connection, inherited: list[Connection]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    parent = os.getppid()

    def say(done: int, metrics: Mapping[str, float]) -> None:
        if os.getppid() != parent:
            os._exit(1)  # the driver is gone: nobody would hear the result
        pipe.send(("steps", (done, metrics)))

    try:
        work(store, key, job, say)
        pipe.send(("done", None))
    except BaseException as error:
        pipe.send(("error", _sendable(error, job)))
    finally:
        pipe.close()


def _sendable(error: BaseException, job: Job) -> WorkError | TombolaError:
    """Our own errors as they are; anybody else's as text, which always gets through a pipe."""
    if isinstance(error, TombolaError) and type(error).__module__ == TombolaError.__module__:
        return error
    text = "".join(traceback.format_exception(error))
    return JobFailedError(f"{type(error).__name__} in a {job.kind} job:\n{text}")
