"""Trackers: a study's curves, table and verdict in TensorBoard or MLflow, as they come.

A tracker is a watcher, in a `with` block of its own:

    with tb.tensorboard("runs") as tracker:
        study = tb.find(tb.recipes.IMP, world, watchers=[tracker])

What the store answers is logged too, so that one attached to a finished study has everything, and
nothing is logged twice. The writing is done by a process of its own (see `sinks`).
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tombola
from tombola.errors import CallError
from tombola.lab.events import Answered, Asked, Ended, Event, Finished, Opened, Turns
from tombola.lab.question import Question, Trial
from tombola.lab.verdict import Verdict
from tombola.out.sinks import DONE, END, FAILED, READY, WRITTEN
from tombola.recipes.jobs import Train, Trained
from tombola.recipes.recipe import Recipe, grow, iterate
from tombola.values.digest import digest

START_SECONDS = 120.0  # a first import from a slow disk, a new data base, a server that is far
CLOSE_SECONDS = 60.0  # without a record written


class TrackerWarning(UserWarning):
    """A tracker had to stop; the study goes on."""


Warn = Callable[[str], None]


def tensorboard(folder: Path | str, warn: Warn | None = None) -> "Tracker":
    """Writes event files into a folder, for `tensorboard --logdir` (see `Tracker`)."""
    return Tracker("tensorboard", str(Path(folder).resolve()), warn)


def mlflow(uri: str, warn: Warn | None = None) -> "Tracker":
    """Writes runs to a data base (sqlite:///runs.db) or a server (http://host:port).

    Raises:
        CallError: not such an address; see also `Tracker`.
    """
    if "://" not in uri:
        raise CallError(
            f"mlflow: {uri!r} is no address; want a data base such as sqlite:///runs.db, or a "
            "server such as http://localhost:5000."
        )
    return Tracker("mlflow", uri, warn)


def tracker_named(text: str, folder: Path, warn: Warn) -> "Tracker":
    """What `--track` means: tensorboard[:DIR] or mlflow[:URI], in `folder` where none is given.

    Raises:
        CallError: another word, no such address, or its package is not installed.
    """
    kind, _, place = text.partition(":")
    if kind == "tensorboard":
        return tensorboard(place or folder / "tensorboard", warn)
    if kind == "mlflow":
        return mlflow(place or f"sqlite:///{folder.resolve() / 'mlflow.db'}", warn)
    raise CallError(f"--track {text}: want tensorboard[:DIR] or mlflow[:URI].")


# -- what is sent ----------------------------------------------------------------------------


class Records:
    """From a study's events to records of what a tracker should hold.

    A training is sent when it is finished where the recipe's loop is one of the house's two, which
    train each cut once. In a loop of its own, a training after a cut may be something else than
    the round's; there it is sent when the trial ends.
    """

    def __init__(self) -> None:
        self._turns = Turns()
        self._askers: dict[str, Trial] = {}
        self._sent: set[str] = set()
        self._question: Question

    def of(self, event: Event) -> Iterator[dict[str, Any]]:
        """What is to be written after an event."""
        self._turns(event)
        match event:
            case Opened():
                self._question = event.question
                yield self._study()
            case Asked(trial=Trial() as trial):
                for key in event.jobs:
                    self._askers.setdefault(key, trial)
            case Finished(job=Train() as job):
                target, trial = self._turns.of(job), self._askers[event.key]
                if target is not None and self._trains_each_once(trial) and at_end(job):
                    yield from self._run(trial, target.round, 0, job, event.result)
            case Ended(trial=Trial() as trial):
                for turn in event.result:
                    yield from self._run(trial, turn.target.round, turn.draw, turn.job, turn.end)
            case Answered():
                yield _answer(event)

    def _study(self) -> dict[str, Any]:
        return {"kind": "study", **self._place()}

    def _place(self) -> dict[str, str]:
        question = self._question
        return {
            "study": question.digest,
            "recipe": question.recipe.name,
            "world": question.world.name,
        }

    def _trains_each_once(self, trial: Trial) -> bool:
        recipe = self._question.arms.get(trial.arm, self._question.recipe)
        return isinstance(recipe, Recipe) and recipe.loop in (iterate, grow)

    def _run(
        self, trial: Trial, number: int, draw: int, job: Train, end: Trained
    ) -> Iterator[dict[str, Any]]:
        question = self._question
        layers = question.recipe.layers(job.world)
        kept = sum(end.kept.get(layer.name, layer.count) for layer in layers)
        content = {
            **self._place(),
            "arm": trial.arm,
            "round": number,
            "seed": trial.seed,
            "draw": draw,
            "density": kept / question.total,
            "step": end.step,
            "readings": end.readings,
            "metrics": end.metrics,
            "diverged_at": end.diverged_at,
        }
        name = digest(content)
        if name not in self._sent:
            self._sent.add(name)
            yield {"kind": "run", **content, "digest": name}


def at_end(job: Train) -> bool:
    """Whether a training goes to the world's last step: no leg to rewind to."""
    return job.until == job.world.steps


def _answer(event: Answered) -> dict[str, Any]:
    document, facts = event.document, event.facts
    names = ("study", "recipe", "world", "rows", "verdict", "checks")
    content = {
        **{name: document[name] for name in names},
        "says": str(Verdict.from_json(document["verdict"])),
        "config": {
            **{name: document[name] for name in ("recipe", "world", "seeds")},
            **{name: facts[name] for name in ("arms", "rule", "controls_at", "setting", "about")},
        },
    }
    return {"kind": "answer", **content, "digest": digest(content)}


# -- who sends it ----------------------------------------------------------------------------

# The package may be where only this process looks for it; what else lies there, or in the current
# directory, must not stand before the library's own modules.
_SCRIPT = """
import sys
home, kind, place = sys.argv[1:]
sys.path.append(home)
from tombola.out.sinks import serve
sys.exit(serve(kind, place))
"""


class Tracker:
    """A watcher that has a tracker written, for the length of a `with` block.

    A tracker that fails on the way is told once to `warn`, by default as a `TrackerWarning`.

    Raises:
        CallError: the tracker's package is not installed. On entering the block: the tracker cannot
            be written to.
    """

    def __init__(self, kind: str, place: str, warn: Warn | None = None) -> None:
        _check_installed(kind, place)
        self._name, self._command = f"{kind} at {without_password(place)}", (kind, place)
        self._warn = warn or (lambda text: warnings.warn(text, TrackerWarning, stacklevel=2))
        self._records = Records()
        self._writer: Writer | None = None
        self._entered = False

    def __enter__(self) -> Self:
        writer = Writer(*self._command)
        reason = writer.begin()
        if reason is not None:
            raise CallError(f"tracker {self._name}: {without_password(reason)}")
        self._writer, self._entered = writer, True
        return self

    def __call__(self, event: Event) -> None:
        if not self._entered:
            raise CallError(f"tracker {self._name}: put a `with` block around the study.")
        for record in self._records.of(event):
            if self._writer is not None and not self._writer.send(record):
                self._end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits until all is written."""
        self._end()
        self._entered = False

    def _end(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        reason = writer.end()
        if reason is not None:
            self._warn(
                f"tracker {self._name} stopped: {without_password(reason)} The study is not "
                "affected; the same call, repeated, logs what is missing and trains nothing again."
            )


class Writer:
    """The process that writes: see `sinks.serve`."""

    def __init__(self, kind: str, place: str) -> None:
        home = str(Path(tombola.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SCRIPT, home, kind, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the study; what is finished is still written
        )
        self._heard = b""

    def begin(self) -> str | None:
        """Wait until it is ready; the reason if it never will be."""
        said = self._line(START_SECONDS)
        return None if said == READY else self._close(said)

    def send(self, record: Mapping[str, Any]) -> bool:
        """False when it is gone."""
        return self._write(json.dumps(record))

    def end(self) -> str | None:
        """Wait until all is written, as long as it goes on; the reason if something was not."""
        self._write(json.dumps(END))
        said: str | None = WRITTEN
        while said == WRITTEN:
            said = self._line(CLOSE_SECONDS)
        return self._close(said)

    def _write(self, text: str) -> bool:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{text}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def _line(self, seconds: float) -> str | None:
        """What it says next; empty when it has gone, None when it says nothing for so long."""
        assert self._process.stdout is not None
        pipe, until = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._heard:
            if not wait([pipe], max(0.0, until - time.monotonic())):
                return None
            more = os.read(pipe, 65_536)
            if not more:
                return ""
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def _close(self, said: str | None) -> str | None:
        """End the process; what was wrong with it, from what it said last."""
        self._process.kill()
        with suppress(BrokenPipeError), self._process:
            pass
        if said is None:
            return "it does not answer."
        if said.startswith(FAILED):
            return said.removeprefix(FAILED)
        return None if said == DONE else "its process ended."


def without_password(text: str) -> str:
    """Addresses, in whatever stands around them, without who is let in.

    >>> without_password("postgresql://me:secret@host/runs does not answer")
    'postgresql://host/runs does not answer'
    """
    return re.sub(r"://[^/@\s]+@", "://", text)


def _check_installed(kind: str, place: str) -> None:
    """Looks for packages without importing them."""
    needed = [kind, *(["sqlalchemy"] if place.startswith("sqlite") else [])]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise CallError(
                f"tracking with {kind} needs the package {package}, which is not installed: "
                f'pip install "tombola[{kind}]"'
            )
