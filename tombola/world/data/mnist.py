"""MNIST from its four IDX files, as published by LeCun, Cortes and Burges, or from parquet."""

import gzip
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.world.data.folder import data_folder, find_file
from tombola.world.data.given import as_split
from tombola.world.data.parquet import published
from tombola.world.data.split import Split

CLASSES = tuple("0123456789")
STEMS = {"train": "train", "test": "t10k"}
ADVICE = (
    "Fetch it with `tombola data fetch mnist`; or put its four files (train-images-idx3-ubyte.gz "
    "and so on) into that folder, or name another with --data or $TOMBOLA_DATA."
)


def mnist(folder: Path | None = None, validation: int = 5_000) -> dict[str, Split]:
    """train 55,000, validation 5,000 by a fixed permutation, test 10,000. uint8 (n, 784), 0 to 255.

    Raises:
        WorldError: a file is missing, cut short, or none of MNIST's.
    """
    return {
        name: replace(split, inputs=split.inputs.flatten(1))
        for name, split in mnist_images(folder, validation).items()
    }


def mnist_images(folder: Path | None = None, validation: int = 5_000) -> dict[str, Split]:
    """The same examples as images, uint8 (n, 1, 28, 28).

    Read from `<data>/mnist`: the IDX files, packed or not; where there is none, parquet files.
    """
    root = data_folder(folder) / "mnist"
    splits = {} if has_idx(root) else published(root, "MNIST", (1, 28, 28), CLASSES)
    splits = splits or idx_set(root, "MNIST", CLASSES)
    train, held = splits["train"].divided(validation, "mnist", "split")
    return {"train": train, "validation": held, "test": splits["test"]}


def has_idx(root: Path) -> bool:
    """Whether a folder has one of the four files, packed or not."""
    return any((root / name).is_file() for stem in STEMS.values() for name in _images(stem))


def idx_set(root: Path, what: str, classes: tuple[str, ...] = ()) -> dict[str, Split]:
    """train and test from the four IDX files of MNIST, or of a set published like it.

    Raises:
        WorldError: a file is missing, cut short, or not IDX, or has labels over those of `classes`.
    """
    splits = {}
    for name, stem in STEMS.items():
        images, labels = _read(root, _images(stem), 3, what), _read(root, _labels(stem), 1, what)
        split = as_split((images[:, None], labels.long()), f"{what} {stem}")
        wrong = split.targets >= (len(classes) or 256)
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            raise WorldError(
                f"{root}: image {place} of {stem} has label {int(split.targets[place])}; want 0 to "
                f"{len(classes) - 1}. Fetch it again."
            )
        splits[name] = replace(split, classes=classes)
    return splits


def _images(stem: str) -> tuple[str, str]:
    return f"{stem}-images-idx3-ubyte.gz", f"{stem}-images-idx3-ubyte"


def _labels(stem: str) -> tuple[str, str]:
    return f"{stem}-labels-idx1-ubyte.gz", f"{stem}-labels-idx1-ubyte"


def _read(root: Path, names: tuple[str, str], dimensions: int, what: str) -> Tensor:
    path = find_file(root, names, what, ADVICE)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise WorldError(f"{path} cannot be read ({error}). Fetch it again.") from error
    return read_idx(raw, str(path), dimensions)


def read_idx(raw: bytes, where: str, dimensions: int) -> Tensor:
    """An IDX array of unsigned bytes: two zeros, type 8, number of dimensions, sizes, data.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "example", 1)
    tensor([7, 9], dtype=torch.uint8)
    """
    head = 4 + 4 * dimensions
    if raw[:4] != bytes([0, 0, 8, dimensions]) or len(raw) < head:
        raise WorldError(f"{where} is not an IDX file of {dimensions}-dimensional bytes.")
    shape = tuple(int(n) for n in np.frombuffer(raw[4:head], dtype=">u4"))
    if len(raw) - head != int(np.prod(shape)):
        raise WorldError(
            f"{where} is cut short or too long: its head says {shape}, it holds {len(raw) - head} "
            "bytes. Fetch it again."
        )
    return torch.from_numpy(np.frombuffer(raw[head:], dtype=np.uint8).reshape(shape).copy())
