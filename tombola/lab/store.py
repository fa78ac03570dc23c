"""The store: objects by the digest of their content, calls by key, unfinished trainings by name.

    format.json                     what this folder is, and its schema
    objects/ab/<digest>.safetensors tensors of a Params or a Mask, named by content
    calls/ab/<key>.json             a finished job: its result, with digests for handles
    legs/<trajectory>/<step>        unfinished (or continuable) trainings
    studies/<digest>.json           finished studies
    probes/<study>/<digest>.json    what probes of a study found
    benches/<study>.json            what shipping its tickets gains on this machine
    reports/<digest>.html           a page for each, where one was made
    work/, claims/                  who is at work (see `presence`)
    damaged/                        what did not have the digest it was named by

Everything is written under a temporary name and renamed, the call record last: a job is done when
its record exists. Reading verifies digests, so no fsync is needed: a torn or damaged object is
named, set aside and recomputed. Several processes may share a store.

The time of a file is when it was last written or used; `gc` looks at it.
"""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError

from tombola.errors import DamagedObjectError, StoreError, StoreFullError, WorkError
from tombola.lab import presence
from tombola.lab.encoding import decode_leg, decode_value, encode_leg, encode_value
from tombola.train.leg import Leg
from tombola.values.digest import digest
from tombola.values.mask import Mask
from tombola.values.params import Params

SCHEMA = 1
T = TypeVar("T", Params, Mask)

# What lies where, by part; the group is the name it is known by. Nothing else there is ours.
_PARTS = {
    part: re.compile(pattern)
    for part, pattern in {
        "temporary": r"(?:.+/)?(\.[^/]+\.\d+\.(?:[0-9a-f]{8}|part))",
        "studies": r"studies/([0-9a-f]{64})\.json",
        "probes": r"probes/([0-9a-f]{64})/[0-9a-f]{64}\.json",
        "benches": r"benches/([0-9a-f]{64})\.json",
        "reports": r"reports/([0-9a-f]{64})\.html",
        "calls": r"calls/../([0-9a-f]{64})\.json",
        "objects": r"objects/../([0-9a-f]{64})\.safetensors",
        "legs": r"legs/([^/]+)/\d+\.leg",
        "checkpoints": r"legs/([^/]+)/\d+\.checkpoint",
        "work": r"work/([^/]+)",
        "claims": r"claims/([0-9a-f]{64})",
        "damaged": r"damaged/([^/]+)",
    }.items()
}


@dataclass(frozen=True)
class Stored(Generic[T]):
    """A handle: the digest at once, the content from the store when asked for."""

    store: "Store"
    type: type[T]
    digest: str

    def load(self) -> T:
        return self.store.fetch(self.type, self.digest)


@dataclass(frozen=True)
class Held:
    """A file of a store. part: the folder it belongs to, or "temporary" for one half-written; name:
    digest, key or trajectory; bytes: on disk; used: when it was last written or used, in
    nanoseconds."""

    path: Path
    part: str
    name: str
    bytes: int
    used: int


class Store:
    """A folder of finished work.

    create: make the folder a store if it is missing or empty; else it counts as an empty store.

    Raises:
        StoreError: not writable, foreign, of a newer tombola, or damaged at its root.
        StoreFullError: an object could not be written (disk full, folder gone).
    """

    def __init__(self, folder: Path | str, *, create: bool = True) -> None:
        self.folder = Path(folder)
        self._open(create)

    # -- the folder --------------------------------------------------------------------------

    def _open(self, create: bool) -> None:
        head = self.folder / "format.json"
        try:
            # One that was killed while it was made holds a temporary format.json at most.
            empty = self.folder.is_dir() and not any(
                path for path in self.folder.iterdir() if not path.name.startswith(".format.json.")
            )
            there = self.folder.exists()
            known = head.is_file()
        except OSError as error:
            raise StoreError(f"store {self.folder} cannot be read: {error}.") from error
        if empty or not there:
            if create:
                self._create(head)
            return
        if not known:
            raise StoreError(
                f"{self.folder} is not a tombola store (no format.json) and not empty. Name an "
                "empty or new folder with --store."
            )
        try:
            found = json.loads(head.read_text())
            schema = int(found["schema"])
            ours = found["format"] == "tombola-store"
            if schema < 1:
                raise ValueError(schema)
        except OSError as error:
            raise StoreError(f"store {self.folder} cannot be read: {error}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{head} is damaged, so it is not certain what this folder is. If it is a store, "
                f'write {{"format": "tombola-store", "schema": {SCHEMA}}} into it.'
            ) from error
        if not ours:
            raise StoreError(f"{self.folder} belongs to {found['format']!r}, not to tombola.")
        if schema > SCHEMA:
            raise StoreError(
                f"store {self.folder} has schema {schema}, this tombola knows {SCHEMA}. Update "
                "tombola, or name another folder with --store."
            )

    def _create(self, head: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(head, json.dumps({"format": "tombola-store", "schema": SCHEMA}).encode())
        except (OSError, StoreFullError) as error:
            raise StoreError(
                f"store {self.folder} cannot be written: {error}. Name another folder with --store "
                "or $TOMBOLA_STORE."
            ) from error

    def check_writable(self) -> None:
        """Raise StoreError unless a file can be made here; asked before work starts."""
        probe = self._temporary(self.folder / "write-test")
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"store {self.folder} cannot be written: {error}. Name another folder with --store "
                "or $TOMBOLA_STORE."
            ) from error

    def _write(self, path: Path, content: bytes) -> None:
        temporary = self._temporary(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
            except FileNotFoundError:  # another process has just removed the empty folder
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(content)
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise self._full(error) from error

    def _temporary(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")

    def _full(self, error: OSError) -> StoreFullError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return StoreFullError(
            f"store {self.folder}: {'the disk is full' if full else error}. Finished work is kept; "
            "make room and repeat the command to go on."
        )

    # -- objects -----------------------------------------------------------------------------

    def put(self, value: Params | Mask) -> str:
        """Store tensors; returns their digest."""
        path = self._object_path(value.digest)
        if self.has(value.digest):
            with suppress(DamagedObjectError):  # set aside, and written anew
                kind: type[Any] = type(value)
                self.fetch(kind, value.digest)
        if not path.exists():
            self._write(path, encode_value(value))
        return value.digest

    def fetch(self, kind: type[T], name: str) -> T:
        """Read an object and verify it.

        Raises:
            DamagedObjectError: missing, torn or altered; it has been set aside.
        """
        path = self._object_path(name)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            raise DamagedObjectError(name, f"object {path} is missing.") from None
        except OSError as error:
            raise WorkError(f"object {path} cannot be read: {error}.") from error
        try:
            value = decode_value(kind, raw)
            if value.digest == name:
                return value
            reason = "its content does not have the digest it is named by"
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = f"it cannot be decoded ({type(error).__name__}: {error})"
        self._set_aside(path)
        raise DamagedObjectError(name, f"object {path}: {reason}; set aside, to be recomputed.")

    def has(self, name: str) -> bool:
        """Whether an object is there, whole or not; it counts as used now."""
        return _note_use(self._object_path(name))

    def _object_path(self, name: str) -> Path:
        return self.folder / "objects" / name[:2] / f"{name}.safetensors"

    def _set_aside(self, path: Path) -> None:
        part, aside = path.relative_to(self.folder).parts[0], self.folder / "damaged"
        try:
            aside.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # another process was faster
                path.replace(aside / f"{part}-{path.name}.{secrets.token_hex(4)}")
        except OSError as error:
            raise WorkError(
                f"{path} is damaged and cannot be set aside: {error}. Remove it, and repeat the "
                "command."
            ) from error

    # -- calls -------------------------------------------------------------------------------

    def record(self, key: str, kind: str, result: Any, context: Mapping[str, Any]) -> None:
        """Store a job's result: objects first, then the record that makes it done."""
        content = {
            "key": key,
            "kind": kind,
            "context": dict(context),
            "result": {f.name: self._encode(getattr(result, f.name)) for f in fields(result)},
        }
        self._write_json(self._call_path(key), content)

    def recall(self, key: str, result_type: type[Any]) -> Any | None:
        """A finished job's result with handles, or None when it has to be (re)computed."""
        content = self.call(key)
        if content is None:
            return None
        decoded = {name: self._decode(value) for name, value in content["result"].items()}
        handles = [value for value in decoded.values() if isinstance(value, Stored)]
        if not all(self.has(handle.digest) for handle in handles):
            return None
        _note_use(self._call_path(key))
        return result_type(**decoded)

    def context(self, key: str) -> dict[str, Any]:
        """What was noted beside a result: seconds, versions, host. Never part of its identity."""
        content = self.call(key)
        return {} if content is None else dict(content["context"])

    def call(self, key: str) -> dict[str, Any] | None:
        """A call's record as it is written; None when it is missing or damaged."""
        content = self._read_json(self._call_path(key))
        if content is not None and content["key"] != key:  # another call's, under this one's name
            self._set_aside(self._call_path(key))
            return None
        return content

    def objects_of(self, key: str) -> set[str]:
        """Digests of the objects that a call's result names; none where it is not recorded."""
        content = self.call(key)
        named = [] if content is None else map(self._decode, content["result"].values())
        return {value.digest for value in named if isinstance(value, Stored)}

    def forget(self, key: str) -> None:
        """Drop a call's record, so that it is computed again."""
        self._call_path(key).unlink(missing_ok=True)

    def _call_path(self, key: str) -> Path:
        return self.folder / "calls" / key[:2] / f"{key}.json"

    def _encode(self, value: Any) -> Any:
        if isinstance(value, (Params, Mask)):
            return {"object": type(value).__name__, "digest": self.put(value)}
        if isinstance(value, Stored):
            return {"object": value.type.__name__, "digest": value.digest}
        return value

    def _decode(self, value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"object", "digest"}:
            kinds: dict[str, type[Any]] = {"Params": Params, "Mask": Mask}
            return Stored(self, kinds[value["object"]], value["digest"])
        return value

    def _write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        whole = {"schema": SCHEMA, **content}
        text = json.dumps({**whole, "digest": digest(whole)}, indent=1)
        self._write(path, text.encode())

    def _read_json(self, path: Path) -> dict[str, Any] | None:
        """A record that has the digest it carries; a damaged one is set aside, and none."""
        try:
            content = json.loads(path.read_bytes())
            claimed = content.pop("digest")
            if digest(content) == claimed:
                return dict(content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise WorkError(f"{path} cannot be read: {error}.") from error
        except (ValueError, KeyError, AttributeError, TypeError):
            pass
        self._set_aside(path)
        return None

    # -- unfinished trainings ----------------------------------------------------------------

    def resume(self, trajectory: str, until: int) -> Leg | None:
        """The furthest stored state of a training that is not past `until`, and is whole."""
        for step, path in sorted(self._legs(trajectory), reverse=True):
            if step > until:
                continue
            try:
                return decode_leg(path.read_bytes())
            except FileNotFoundError:
                continue
            except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
                self._set_aside(path)  # torn or altered: an earlier state, or the start, will do
        return None

    def keep(self, trajectory: str, leg: Leg, pinned: bool) -> None:
        """Store a state. Earlier states that are not pinned go."""
        name = f"{leg.step:012d}.{'leg' if pinned else 'checkpoint'}"
        self._write(self.folder / "legs" / trajectory / name, encode_leg(leg))
        self._drop_checkpoints(trajectory, before=leg.step)

    def finished(self, trajectory: str, until: int) -> None:
        """The training to `until` is stored: checkpoints up to there can go."""
        self._drop_checkpoints(trajectory, before=until + 1)
        folder = self.folder / "legs" / trajectory
        with suppress(OSError):  # not empty (a pinned state, another process), or gone
            folder.rmdir()

    def _drop_checkpoints(self, trajectory: str, before: int) -> None:
        for step, path in self._legs(trajectory):
            if path.suffix == ".checkpoint" and step < before:
                path.unlink(missing_ok=True)

    def _legs(self, trajectory: str) -> Iterator[tuple[int, Path]]:
        with suppress(FileNotFoundError):  # none, or another process has just removed the last
            for path in list((self.folder / "legs" / trajectory).iterdir()):
                if path.suffix in (".leg", ".checkpoint") and path.stem.isdecimal():
                    yield int(path.stem), path

    # -- studies -----------------------------------------------------------------------------

    def write_study(self, name: str, content: Mapping[str, Any]) -> None:
        self._write_json(self.folder / "studies" / f"{name}.json", content)

    def read_study(self, name: str) -> dict[str, Any] | None:
        path = self.folder / "studies" / f"{name}.json"
        content = self._read_json(path)
        if content is not None and content["document"]["study"] != name:
            self._set_aside(path)
            return None
        return content

    def studies(self) -> list[str]:
        """Digests of all studies, the latest last."""
        found = [held for held in self.files("studies") if held.part == "studies"]
        return [held.name for held in sorted(found, key=lambda held: (held.used, held.name))]

    def lost_studies(self) -> set[str]:
        """Digests of studies whose records were damaged, set aside, and not made again."""
        aside = (held.name.partition("-") for held in self.files("damaged"))
        lost = {name[:64] for part, _, name in aside if part == "studies"}
        return lost - set(self.studies())

    def write_probe(self, study: str, name: str, content: Mapping[str, Any]) -> None:
        self._write_json(self.folder / "probes" / study / f"{name}.json", content)

    def read_probe(self, study: str, name: str) -> dict[str, Any] | None:
        path = self.folder / "probes" / study / f"{name}.json"
        content = self._read_json(path)
        if content is not None and content["document"]["digest"] != name:
            self._set_aside(path)
            return None
        return content

    def probes(self, study: str) -> list[dict[str, Any]]:
        """What the probes of a study found, in the order of their names; damaged ones left out."""
        held = self.files(f"probes/{study}")
        found = [self.read_probe(study, of.path.stem) for of in held if of.part == "probes"]
        known = [content for content in found if content is not None]
        return sorted(known, key=lambda of: (of["document"]["probe"], of["document"]["digest"]))

    def write_bench(self, study: str, content: Mapping[str, Any]) -> None:
        self._write_json(self.folder / "benches" / f"{study}.json", content)

    def read_bench(self, study: str) -> dict[str, Any] | None:
        """What was measured of a study's shipped tickets last; None where nothing was."""
        return self._read_json(self.folder / "benches" / f"{study}.json")

    # -- who is at work ----------------------------------------------------------------------

    @contextmanager
    def at_work(self, study: str | None, recipe: str, world: str) -> Iterator[presence.Diary]:
        """While this is held, `gc` leaves alone what was used since it began; where it ends in an
        error or a kill, also what the study it was for had asked for.

        study: its digest; None for work that belongs to no study. recipe, world: for people.
        """
        try:
            diary = presence.Diary(self.folder, study, recipe, world)
        except OSError as error:
            raise self._full(error) from error
        done = False
        try:
            yield diary
            done = True
        finally:
            diary.close(forget=done or study is None)
        for command in self.commands():
            if command.study == study and not command.alive:  # interrupted, and now made good
                with suppress(OSError):
                    command.path.unlink()

    def commands(self) -> list[presence.Command]:
        """Those at work, and those that were interrupted."""
        return list(presence.commands(self.folder))

    def claim(self, key: str) -> presence.Claim | None:
        """Take a job on, so that other processes do something else; None while one of them has."""
        try:
            return presence.claim(self.folder, key)
        except OSError as error:
            raise self._full(error) from error

    # -- all there is ------------------------------------------------------------------------

    def files(self, within: str = ".") -> Iterator[Held]:
        """Every file that is the store's own, or those in one folder of it. Files may come and go
        meanwhile."""
        for folder, _, names in os.walk(self.folder / within):
            for path in (Path(folder, name) for name in names):
                held = self._held(path)
                if held is not None:
                    yield held

    def drop_half_written(self, processes: set[int]) -> None:
        """Remove the temporary files of processes that are no more."""
        for held in list(self.files()):
            if held.part == "temporary" and held.name.split(".")[-2] in map(str, processes):
                with suppress(OSError):
                    held.path.unlink()

    def _held(self, path: Path) -> Held | None:
        place = path.relative_to(self.folder).as_posix()
        for part, pattern in _PARTS.items():
            match = pattern.fullmatch(place)
            if match is not None:
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    return Held(path, part, match[1], facts.st_size, facts.st_mtime_ns)
                break
        return None

    def size(self) -> dict[str, int]:
        """Bytes on disk by part."""
        sizes: dict[str, int] = {}
        for held in self.files():
            sizes[held.part] = sizes.get(held.part, 0) + held.bytes
        return dict(sorted(sizes.items()))

    def remove(self, held: Held) -> int:
        """Take a file away, unless it was used since it was listed; returns the bytes freed."""
        try:
            if held.path.stat().st_mtime_ns != held.used:
                return 0
            held.path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise WorkError(f"{held.path} cannot be removed: {error}.") from error
        if held.part in ("objects", "calls", "legs", "checkpoints", "probes"):
            with suppress(OSError):  # not empty, or gone
                held.path.parent.rmdir()
        return held.bytes


def _note_use(path: Path) -> bool:
    """Whether a file is there; its time becomes now, where that may be changed."""
    try:
        os.utime(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return path.exists()
    return True
