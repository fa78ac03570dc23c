"""The store: objects by the digest of their content, calls by key, unfinished trainings by name.

    format.json                     what this folder is, and its schema
    objects/ab/<digest>.safetensors tensors of a Params or a Mask, named by content
    calls/ab/<key>.json             a finished job: its result, with digests for handles
    legs/<trajectory>/<step>        unfinished (or continuable) trainings
    studies/<digest>.json           finished studies
    damaged/                        what did not have the digest it was named by

Everything is written under a temporary name and renamed, the call record last: a job is done when
its record exists. Reading verifies digests, so no fsync is needed: a torn or damaged object is
named, set aside and recomputed. Several processes may share a store.
"""

import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError

from tombola.errors import DamagedObjectError, StoreError, StoreFullError, WorkError
from tombola.lab.encoding import decode_leg, decode_value, encode_leg, encode_value
from tombola.train.leg import Leg
from tombola.values.digest import digest
from tombola.values.mask import Mask
from tombola.values.params import Params

SCHEMA = 1
T = TypeVar("T", Params, Mask)


@dataclass(frozen=True)
class Stored(Generic[T]):
    """A handle: the digest at once, the content from the store when asked for."""

    store: "Store"
    type: type[T]
    digest: str

    def load(self) -> T:
        return self.store.fetch(self.type, self.digest)


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
        probe = self.folder / f"write-test-{secrets.token_hex(4)}"
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"store {self.folder} cannot be written: {error}. Name another folder with --store "
                "or $TOMBOLA_STORE."
            ) from error

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
            except FileNotFoundError:  # another process has just removed the empty folder
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(content)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if full else str(error)
            raise StoreFullError(
                f"store {self.folder}: {reason}. Finished work is kept; make room and repeat the "
                "command to go on."
            ) from error

    # -- objects -----------------------------------------------------------------------------

    def put(self, value: Params | Mask) -> str:
        """Store tensors; returns their digest."""
        path = self._object_path(value.digest)
        if path.exists():
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
        return self._object_path(name).exists()

    def _object_path(self, name: str) -> Path:
        return self.folder / "objects" / name[:2] / f"{name}.safetensors"

    def _set_aside(self, path: Path) -> None:
        aside = self.folder / "damaged"
        aside.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process was faster
            path.replace(aside / f"{path.name}.{secrets.token_hex(4)}")

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
        path = self._call_path(key)
        content = self._read_json(path)
        if content is None:
            return None
        decoded = {name: self._decode(value) for name, value in content["result"].items()}
        handles = [value for value in decoded.values() if isinstance(value, Stored)]
        if not all(self.has(handle.digest) for handle in handles):
            return None
        return result_type(**decoded)

    def context(self, key: str) -> dict[str, Any]:
        """What was noted beside a result: seconds, versions, host. Never part of its identity."""
        content = self._read_json(self._call_path(key))
        return {} if content is None else dict(content["context"])

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
        folder = self.folder / "legs" / trajectory
        if folder.is_dir():
            for path in list(folder.iterdir()):
                if path.suffix in (".leg", ".checkpoint") and not path.name.startswith("."):
                    yield int(path.stem), path

    # -- studies -----------------------------------------------------------------------------

    def write_study(self, name: str, content: Mapping[str, Any]) -> None:
        self._write_json(self.folder / "studies" / f"{name}.json", content)

    def read_study(self, name: str) -> dict[str, Any] | None:
        return self._read_json(self.folder / "studies" / f"{name}.json")

    def studies(self) -> list[str]:
        """Digests of all studies, the latest last."""
        paths = (self.folder / "studies").glob("[!.]*.json")
        return [path.stem for path in sorted(paths, key=lambda p: (p.stat().st_mtime_ns, p.name))]

    def size(self) -> dict[str, int]:
        """Bytes on disk by folder."""
        return {
            part.name: sum(f.stat().st_size for f in part.rglob("*") if f.is_file())
            for part in sorted(self.folder.iterdir())
            if part.is_dir()
        }
