"""Which split a file belongs to, by the words in its path."""

import logging
import re
from collections.abc import Iterable
from pathlib import PurePath

from tombola.errors import WorldError

log = logging.getLogger("tombola")

SPLITS = ("train", "validation", "test")
WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def split_of(name: str) -> str | None:
    """The split that the name of a file or folder stands for, where it names one.

    >>> [split_of(n) for n in ("train-00000-of-00002.parquet", "val", "cifar10-test", "extra")]
    ['train', 'validation', 'test', None]
    """
    found = {WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in WORDS}
    return found.pop() if len(found) == 1 else None


def say_left_out(where: object, left_out: Iterable[object]) -> None:
    """Tell the user, through Python's logging, what of a set is in no split."""
    if names := [str(name) for name in left_out]:
        log.warning("%s: left out, being of no known split: %s", where, ", ".join(names))


def by_split(paths: Iterable[PurePath], where: str) -> dict[str, list[PurePath]]:
    """Paths relative to the folder of a set, by split: as the file's name says, else the nearest
    folder's. All are `train` if none says anything; else those that say nothing are left out.

    Raises:
        WorldError: they are of several sets, each in a folder of its own.

    Example:
        >>> by_split([PurePath("plain_text/test.parquet"), PurePath("plain_text/train.parquet")],
        ...          "here")
        {'train': [PurePosixPath('plain_text/train.parquet')], 'test': [PurePosixPath('plain_text/test.parquet')]}
    """  # noqa: E501
    sets: dict[PurePath, dict[str, list[PurePath]]] = {}
    every = sorted(paths)
    for path in every:
        named = [split_of(part) for part in path.parts]
        split = next((name for name in reversed(named) if name), None)
        if split:
            folders = zip(path.parts[:-1], named[:-1], strict=True)
            kind = PurePath(*(part for part, name in folders if name is None))
            sets.setdefault(kind, {}).setdefault(split, []).append(path)
    if len(sets) > 1:
        raise WorldError(
            f"{where} holds several sets: {', '.join(map(str, sets))}. Name one, as "
            f"{where}/{next(iter(sets))}."
        )
    if not sets:
        return {"train": every} if every else {}
    (found,) = sets.values()
    return {split: found[split] for split in SPLITS if split in found}
