"""Files of a store damaged one at a time, and what the commands that come next make of it."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from storms import Said, say, unsound

from tombola.errors import WorkError
from tombola.lab.store import Store

MODULE = "damaged_world"
TEXT = """
from dataclasses import replace
import torch
from torch import nn
import tombola as tb

x = torch.randn(160, 6, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
recipe = replace(tb.recipes.IMP, name="mine", rewind=tb.ToStep(step=5))


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def world():
    return tb.World(model=net, train=(x[:80], y[:80]), test=(x[80:], y[80:]), steps=20,
                    batch_size=10, optimiser=tb.Adam(lr=.01), judged_density=.6, name="tiny")
"""
FIND = (
    *("find", f"{MODULE}:recipe", "--on", f"{MODULE}:world", "--seeds", "1", "--jobs", "1"),
    *("--arms", "dense,ticket,shuffle", "--json", "--quiet"),
)
COMMANDS = {
    "find": FIND,
    "plan": ("plan", *FIND[1:-1]),
    "verify": ("verify", "latest", "--sample", "0", "--json"),
    "judge": ("judge", "latest", "--json"),
    "ship": ("ship", "latest", "--to", "safetensors", "--out", "shipped", "--json"),
    "ls": ("ls", "--json"),
    "gc": ("gc", "--unused-for", "0", "--yes", "--json"),
    "report": ("report", "latest", "--json"),
}
HEAD = '{"format": "tombola-store", "schema": 1}'


class Patient:
    """A store that is damaged and goes on: a finished study, or one that stopped in mid-training.

    folder: an empty one, which must be the current directory and importable.
    """

    def __init__(self, folder: Path) -> None:
        (folder / f"{MODULE}.py").write_text(TEXT)
        self.store, self.whole, self.stopped = (
            folder / name for name in ("store", "whole", "stopped")
        )
        ends = {name: self.told(name, self.whole) for name in COMMANDS}
        for name, said in ends.items():
            assert said.status == 0, (name, said.err)
        self.wanted = {name: said.document for name, said in ends.items()}
        with stopping_at_training(4):
            assert self.told("find", self.stopped).status == 1
        self.targets = {**self._of_whole(), **self._of_stopped()}

    def told(self, command: str, store: Path) -> Said:
        return say(*COMMANDS[command], "--store", store)

    def _of_whole(self) -> dict[str, Path]:
        store = Store(self.whole)
        study = store.read_study(store.studies()[0])
        assert study is not None
        trial = next(t for t in study["facts"]["trials"] if t["round"] == 2)
        found = {f"object, {part}": store._object_path(trial[part]) for part in PARTS}
        for held in store.files():
            if held.part == "calls":
                record = store.call(held.name)
                assert record is not None
                found[f"call record, {record['kind']}"] = held.path
            elif held.part in ("studies", "reports", "legs"):
                found[held.part] = held.path
        return {**found, "format.json": self.whole / "format.json"}

    def _of_stopped(self) -> dict[str, Path]:
        return {
            f"{held.part} of an unfinished study": held.path
            for held in Store(self.stopped).files()
            if held.part in ("legs", "checkpoints", "work", "calls", "objects")
        }

    def wrong(self, target: str, damaged: bytes, command: str) -> list[str]:
        """Damage a file, give a command, then find and verify: what ought not to have happened."""
        path = self.targets[target]
        source = self.stopped if path.is_relative_to(self.stopped) else self.whole
        shutil.rmtree(self.store, ignore_errors=True)
        ignored = () if target == "reports" else ("*.html",)  # large
        shutil.copytree(source, self.store, ignore=shutil.ignore_patterns(*ignored))
        (self.store / path.relative_to(source)).write_bytes(damaged)
        wrong = self._unlike(command, self.told(command, self.store))
        if target == "format.json":
            (self.store / "format.json").write_text(HEAD)  # as its message says
        for last in ("find", "verify", "find", "verify"):
            said = self.told(last, self.store)
            wrong += self._unlike(last, said)
            if last == "find" and said.status != 0:
                wrong.append(f"then find: exit status {said.status}: {said.err}")
            elif said.status == 0 == said.document.get("missing"):
                break  # verified: whatever was read is right
        else:
            wrong.append(f"verify after all: exit status {said.status}: {said.err}")
        unread = (
            "/damaged/",
            "/legs/",
        )  # a state that nobody went on from is read when somebody does
        return wrong + [w for w in unsound(self.store) if not any(part in w for part in unread)]

    def _unlike(self, command: str, said: Said) -> list[str]:
        """A command must say what an undisturbed one says, or that something is the matter."""
        if said.status not in (0, 1, 2) or "Traceback" in said.err:
            return [f"{command}: {said.err}"]
        if said.status != 0:
            says = said.err.startswith("tombola: ") or command == "verify"
            return [] if says else [f"{command}: exit status {said.status}: {said.err}"]
        found, wanted = said.document, self.wanted[command]
        if command in ("plan", "gc", "report"):
            found, wanted = ({"study": each.get("study")} for each in (found, wanted))
        if command == "ls":  # a damaged study is listed as such, or gone
            wanted = {study["study"]: study["outcome"] for study in wanted["studies"]}
            found = {s["study"]: s["outcome"] for s in found["studies"] if s["outcome"]}
            return [] if found in (wanted, {}) else [f"ls: {found} instead of {wanted}"]
        if command == "verify" and found["missing"]:
            return [] if found["checked"] == found["equal"] else [f"verify: {found}"]
        return [] if found == wanted else [f"{command}: {found} instead of {wanted}"]


PARTS = ("init", "mask", "params")


@contextmanager
def stopping_at_training(number: int) -> Iterator[None]:
    """A study stops before the result of its training `number` is stored; states of trainings are
    kept at every step."""
    record, trained = Store.record, 0

    def until(self: Store, key: str, kind: str, *more: Any) -> None:
        nonlocal trained
        trained += kind == "train"
        if trained == number:
            raise WorkError("the power went")
        record(self, key, kind, *more)

    with (
        patch.object(Store, "record", until),
        patch("tombola.train.loop.CHECKPOINT_SECONDS", 0.0),
    ):
        yield


def damages(content: bytes, flips: int, cuts: int, choose: random.Random) -> Iterator[bytes]:
    """A file with one bit flipped, at places spread evenly; cut short; as zeros; with more behind.

    >>> [len(d) for d in damages(b"abcdef", 3, 2, random.Random(0))]
    [6, 6, 6, 0, 5, 6, 7]
    """
    last = len(content) - 1
    for number in range(flips):
        changed = bytearray(content)
        changed[number * last // max(1, flips - 1)] ^= 1 << choose.randrange(8)
        yield bytes(changed)
    for number in range(cuts):
        yield content[: number * last // max(1, cuts - 1)]
    yield bytes(len(content))
    yield content + b"x"
