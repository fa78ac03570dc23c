"""Studies that are disturbed from outside, and stores compared and looked through afterwards."""

import functools
import importlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

import tombola.train.loop
from tombola.cli import main
from tombola.errors import TombolaError
from tombola.lab.encoding import decode_leg
from tombola.lab.store import Store
from tombola.values.mask import Mask
from tombola.values.params import Params


class Running:
    """A `tombola` command in a process of its own, at the head of a process group.

    Forked from this process, with everything imported and warm, it begins to work within a tenth of
    a second, and writes its files in two halves, 10 ms apart, so that a kill may fall between; a
    fresh interpreter takes some two seconds and writes as usual. stdout and stderr go to
    `<log>.out` and `<log>.err`. checkpoint_seconds: how often trainings save their state.
    file_limit: bytes that a single file may have.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        fresh: bool = False,
        checkpoint_seconds: float = 20.0,
        file_limit: int | None = None,
    ) -> None:
        self.log, call = log, [str(part) for part in argv]
        self._wait = (_fresh if fresh else _forked)(self, call, checkpoint_seconds, file_limit)

    pid: int

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status; None if it still runs after so long."""
        return self._wait(seconds)

    def children(self) -> list[int]:
        """The processes its jobs run in."""
        try:
            listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(child) for child in listed.split()]

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # not yet the head of a group
            os.kill(self.pid, signal.SIGKILL)
        self._wait(None)

    def kill_a_child(self, choose: random.Random) -> bool:
        """SIGKILL for one of its jobs' processes; False if there is none."""
        children = self.children()
        with suppress(ProcessLookupError):
            if children:
                os.kill(choose.choice(children), signal.SIGKILL)
                return True
        return False

    @property
    def out(self) -> str:
        return self.log.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        return self.log.with_suffix(".err").read_text()


Wait = Callable[[float | None], int | None]


def _forked(
    running: Running, argv: list[str], checkpoint_seconds: float, limit: int | None
) -> Wait:
    warm_up()
    process = multiprocessing.get_context("fork").Process(
        target=_in_fork, args=(argv, running.log, checkpoint_seconds, limit)
    )
    process.start()
    assert process.pid is not None
    running.pid = process.pid

    def wait(seconds: float | None) -> int | None:
        process.join(seconds)
        return process.exitcode

    return wait


@functools.cache
def warm_up() -> None:
    """Import what a study imports as it goes, once for all forks."""
    torch.optim.SGD([torch.zeros(1)], lr=1.0)  # torch's compiler
    for module in ("scipy.stats", "plotly.graph_objects", "tombola.cli.find", "tombola.lab.verify"):
        importlib.import_module(module)
    report_modules = ("tombola.out.report", "tombola.out.progress", "tombola.out.track", "sklearn")
    for module in report_modules:
        importlib.import_module(module)


def _in_fork(argv: list[str], log: Path, checkpoint_seconds: float, limit: int | None) -> None:
    os.setsid()
    _limit_files(limit)
    tombola.train.loop.CHECKPOINT_SECONDS = checkpoint_seconds
    Path.write_bytes = _write_slowly  # type: ignore[method-assign]
    sys.stdout = log.with_suffix(".out").open("w")
    sys.stderr = log.with_suffix(".err").open("w")
    status = main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _limit_files(size: int | None) -> None:
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _write_slowly(path: Path, content: bytes) -> int:
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        time.sleep(0.01)
        file.write(content[len(content) // 2 :])
    return len(content)


FRESH = """
import sys
import tombola.train.loop
tombola.train.loop.CHECKPOINT_SECONDS = float(sys.argv.pop(1))
from tombola.cli import main
sys.exit(main())
"""


def _fresh(running: Running, argv: list[str], checkpoint_seconds: float, limit: int | None) -> Wait:
    call = [sys.executable, "-c", FRESH, str(checkpoint_seconds), *argv]
    with (
        running.log.with_suffix(".out").open("w") as out,
        running.log.with_suffix(".err").open("w") as err,
    ):
        process = subprocess.Popen(
            call,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=functools.partial(_limit_files, limit),
        )
    running.pid = process.pid

    def wait(seconds: float | None) -> int | None:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    return wait


VARYING = ("cost", "seconds", "store", "report", "path")  # of a document; times and places


@dataclass(frozen=True)
class Said:
    """A command's end. status: 99 for an exception that nobody caught."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What it printed, less times and places."""
        return {key: value for key, value in json.loads(self.out).items() if key not in VARYING}


def say(*argv: str | Path) -> Said:
    """Run a command here."""
    out, err, status = io.StringIO(), io.StringIO(), 99
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(part) for part in argv])
        except Exception:
            traceback.print_exc(file=err)
    return Said(status, out.getvalue(), err.getvalue())


def results(store: Path) -> dict[str, Any]:
    """Every stored result by its key, less what is noted beside it (seconds, host)."""
    found = {}
    for path in (store / "calls").rglob("[!.]*.json"):
        content = json.loads(path.read_text())
        found[content["key"]] = content["result"]
    return found


def objects(store: Path) -> dict[str, bytes]:
    """Every stored tensor file by its name."""
    return {path.name: path.read_bytes() for path in (store / "objects").rglob("[!.]*.safetensors")}


def unsound(folder: Path) -> list[str]:
    """What in a store is not what its name says: at no moment may there be anything."""
    if not (folder / "format.json").exists():
        return [str(path) for path in folder.rglob("[!.]*")] if folder.exists() else []
    try:
        store, wrong = Store(folder, create=False), list[str]()
    except TombolaError as error:
        return [str(error)]
    for held in list(store.files()):
        try:
            match held.part:
                case "calls":
                    if store.call(held.name) is None:
                        wrong.append(str(held.path))
                    missing = [name for name in store.objects_of(held.name) if not store.has(name)]
                    wrong += [f"{held.path}: {name} is missing" for name in missing]
                case "objects":
                    with safe_open(held.path, "pt") as file:
                        kind = {"Mask": Mask, "Params": Params}[file.metadata()["kind"]]
                    store.fetch(kind, held.name)
                case "legs" | "checkpoints":
                    decode_leg(held.path.read_bytes())
                case "studies":
                    if store.read_study(held.name) is None:
                        wrong.append(str(held.path))
                case "damaged":
                    wrong.append(str(held.path))
        except FileNotFoundError:
            continue  # one of the last moments of a process that is being killed
        except (TombolaError, SafetensorError, ValueError, KeyError) as error:
            wrong.append(f"{held.path}: {error!r}")
    return wrong
