"""Who is at work in a store: so that nobody takes away what another needs, or does it again.

    work/<study>.<token>    a command that began: when, for which study, the calls it asked for
    claims/<key>            a job under way

Both are locked by the process that made them, and the lock goes with the process, however that
ends: a command whose file is there without its lock was interrupted. On a file system without locks
every command looks interrupted and no job is claimed; then work may be done twice, to the same
bytes, and nothing is lost.
"""

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tombola.lab.events import Advanced, Asked, Event
from tombola.recipes.jobs import Train

SILENCE = 60.0  # seconds without a sign of life after which a claimed job is not waited for
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_DIGITS = 64  # of a key


class Diary:
    """A command at work: what it asks for is written down until it is done."""

    def __init__(self, store: Path, study: str | None, recipe: str, world: str) -> None:
        """store: its folder. study: a digest; None for work that belongs to no study. recipe,
        world: for people."""
        self._store, folder = store, store / "work"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{study or 'none'}.{secrets.token_hex(4)}"
        temporary = folder / f".{self.path.name}.{os.getpid()}.{secrets.token_hex(4)}"
        self._file = temporary.open("w", encoding="utf-8")
        try:
            _lock(self._file.fileno())
            began = time.time() - 1.0  # clocks of files tick more coarsely
            head = {"began": began, "study": study, "recipe": recipe, "world": world}
            self._line(json.dumps(head))
            temporary.replace(self.path)  # locked before it can be seen
        except OSError:
            self._file.close()
            temporary.unlink(missing_ok=True)
            raise

    def watch(self, event: Event) -> None:
        """A watcher: notes what is asked for, and lets a claimed job show life. Where that cannot
        be written (a full disk), the work itself will say so."""
        if isinstance(event, Advanced):
            show_life(self._store, event.key)
        elif isinstance(event, Asked):
            for key, job in event.jobs.items():
                trajectory = job.trajectory if isinstance(job, Train) else ""
                with suppress(OSError):
                    self._line(f"{key} {trajectory}")

    def _line(self, text: str) -> None:
        self._file.write(text + "\n")
        self._file.flush()

    def close(self, *, forget: bool) -> None:
        """The command has ended. forget: it has nothing to come back to."""
        with suppress(OSError):
            if forget:
                self.path.unlink(missing_ok=True)
            fcntl.flock(self._file, fcntl.LOCK_UN)  # by name, since children may hold a copy
        with suppress(OSError):
            self._file.close()


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that began, as read back.

    alive: it is at work now; else it was interrupted. began: seconds since the epoch. calls,
    trainings: keys and trajectories it had asked for.
    """

    path: Path
    alive: bool
    began: float
    study: str | None
    recipe: str
    world: str
    calls: frozenset[str]
    trainings: frozenset[str]


def commands(store: Path) -> Iterator[Command]:
    """All that have begun and not ended; what cannot be read is left out."""
    for path in sorted((store / "work").glob("[!.]*")):
        with suppress(OSError, ValueError, LookupError, TypeError):
            yield _command(path)


def _command(path: Path) -> Command:
    with path.open("rb") as file:
        alive = not _lock(file.fileno(), fcntl.LOCK_SH)
        lines = file.read().decode(errors="replace").splitlines()
    head = json.loads(lines[0])
    asked = [line.partition(" ") for line in lines[1:]]
    return Command(
        path=path,
        alive=alive,
        began=float(head["began"]),
        study=head["study"],
        recipe=str(head["recipe"]),
        world=str(head["world"]),
        calls=frozenset(key for key, _, _ in asked if len(key) == _DIGITS),
        trainings=frozenset(name for _, _, name in asked if name),
    )


class Claim:
    """A job this process has taken on; others do something else meanwhile, or wait."""

    def __init__(self, path: Path, file: int) -> None:
        self._path, self._file = path, file

    def release(self) -> None:
        """The job is done, or given up."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            fcntl.flock(self._file, fcntl.LOCK_UN)  # by name, since children may hold a copy
        os.close(self._file)


def claim(store: Path, key: str) -> Claim | None:
    """Take a job on; None while another process that shows signs of life is at it."""
    path = store / "claims" / key
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            taken, same = _lock(file), _is_still(path, file)
            silent = not taken and time.time() - os.fstat(file).st_mtime > SILENCE
        except BaseException:
            os.close(file)
            raise
        if same and (taken or silent):
            return Claim(path, file)
        os.close(file)
        if same:
            return None


def show_life(store: Path, key: str) -> None:
    """A claimed job is getting on."""
    with suppress(OSError):
        os.utime(store / "claims" / key)


def _is_still(path: Path, file: int) -> bool:
    """Whether the name still stands for the file that was opened: its owner removes it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _lock(file: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file; False if another process has it. Without locks everybody gets one."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
