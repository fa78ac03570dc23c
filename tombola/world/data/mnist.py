"""MNIST from its four IDX files, as published by LeCun, Cortes and Burges."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.values.rng import stream
from tombola.world.data.folder import data_folder, find_file
from tombola.world.data.split import Split, as_split

ADVICE = (
    "Put the four files of MNIST (train-images-idx3-ubyte.gz and so on) into that folder, or name "
    "another with --data or $TOMBOLA_DATA."
)


def mnist(folder: Path | None = None, validation: int = 5_000) -> dict[str, Split]:
    """train 55,000, validation 5,000 by a fixed permutation, test 10,000. uint8 (n, 784), 0 to 255.

    Raises:
        WorldError: a file is missing, cut short, or not IDX.
    """
    root = data_folder(folder) / "mnist"
    inputs = {s: _read(root, f"{s}-images-idx3-ubyte", 3).flatten(1) for s in ("train", "t10k")}
    targets = {s: _read(root, f"{s}-labels-idx1-ubyte", 1).long() for s in ("train", "t10k")}
    everything, test = (as_split((inputs[s], targets[s]), f"MNIST {s}") for s in ("train", "t10k"))
    order = torch.randperm(len(everything), generator=stream(0, "mnist", "split"))
    return {
        "train": everything.part(order[validation:]),
        "validation": everything.part(order[:validation]),
        "test": test,
    }


def _read(root: Path, name: str, dimensions: int) -> Tensor:
    path = find_file(root, (f"{name}.gz", name), "MNIST", ADVICE)
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
