"""CIFAR-10, from parquet files as on the Hugging Face hub, or from the authors' binary batches."""

import gzip
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from tombola.errors import WorldError
from tombola.world.data.folder import data_folder
from tombola.world.data.parquet import published
from tombola.world.data.split import Split

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
IMAGE = (3, 32, 32)
ARCHIVE = "cifar-10-binary.tar.gz"
BATCHES = "cifar-10-batches-bin"
TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCH = "test_batch.bin"
RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue pixels, row by row


def cifar10(folder: Path | None = None, validation: int = 5_000) -> dict[str, Split]:
    """train 45,000, validation 5,000 by a fixed permutation, test 10,000. uint8 (n, 3, 32, 32).

    Read from `<data>/cifar10`: parquet files; where there are none, the batches of
    cifar-10-binary.tar.gz (Krizhevsky 2009), packed or unpacked. Both have the same pixels in the
    same order, unless the parquet files hold JPEG, whose pixels depend on the decoder.

    Raises:
        WorldError: the files are missing, damaged, or of another set.
    """
    root = data_folder(folder) / "cifar10"
    splits = published(root, "CIFAR-10", IMAGE, CLASSES) or cifar10_batches(root)
    if not splits:
        raise WorldError(
            f"CIFAR-10 not found; looked in {root} for parquet files, {BATCHES}/{TEST_BATCH} and "
            f"{ARCHIVE}. Fetch it with `tombola data fetch cifar10`, or name another folder with "
            "--data or $TOMBOLA_DATA."
        )
    train, held = splits["train"].divided(validation, "cifar10", "split")
    return {"train": train, "validation": held, "test": splits["test"]}


def cifar10_batches(root: Path) -> dict[str, Split]:
    """train and test from the binary batches in this folder; empty where there are none.

    Raises:
        WorldError: a batch is missing, damaged, or of another set.
    """
    for folder in (root / BATCHES, root):
        if (folder / TEST_BATCH).is_file():
            return _splits(partial(_unpacked, folder))
    if (root / ARCHIVE).is_file():
        return _packed(root / ARCHIVE)
    return {}


def read_batch(raw: bytes, where: str) -> Split:
    """Records of a label and 3,072 pixels.

    >>> split = read_batch(bytes([3]) + bytes(range(256)) * 12, "example")
    >>> split.targets, split.inputs[0, 0, 1, :3]
    (tensor([3]), tensor([32, 33, 34], dtype=torch.uint8))
    """
    if not raw or len(raw) % RECORD:
        raise WorldError(
            f"{where} has {len(raw)} bytes, no whole number of images of {RECORD}; it is cut short "
            "or none of CIFAR-10's. Fetch it again."
        )
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, RECORD)
    targets = torch.from_numpy(records[:, 0].astype(np.int64))
    if int(targets.max()) >= len(CLASSES):
        place = int((targets >= len(CLASSES)).nonzero()[0])
        raise WorldError(
            f"{where}: image {place} has label {int(targets[place])}; want 0 to 9. The file is "
            "damaged, or none of CIFAR-10's."
        )
    return Split(torch.from_numpy(records[:, 1:].reshape(-1, *IMAGE).copy()), targets, CLASSES)


def _splits(content: Callable[[str], tuple[bytes, str]]) -> dict[str, Split]:
    parts = [read_batch(*content(name)) for name in TRAIN_BATCHES]
    inputs, targets = (
        torch.cat([getattr(part, side) for part in parts]) for side in ("inputs", "targets")
    )
    return {
        "train": Split(inputs, targets, CLASSES),
        "test": read_batch(*content(TEST_BATCH)),
    }


def _unpacked(folder: Path, name: str) -> tuple[bytes, str]:
    path = folder / name
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise WorldError(f"{path} cannot be read ({error}). Fetch CIFAR-10 again.") from error


def _packed(path: Path) -> dict[str, Split]:
    try:
        raw = gzip.decompress(path.read_bytes())  # to its end, where the checksum is
        with tarfile.open(fileobj=BytesIO(raw), mode="r:") as archive:
            members = {Path(member.name).name: member for member in archive if member.isfile()}

            def content(name: str) -> tuple[bytes, str]:
                if name not in members:
                    raise WorldError(f"{path} has no {name}. Fetch it again.")
                file = archive.extractfile(members[name])
                assert file is not None  # only for what is no file
                return file.read(), f"{path}: {name}"

            return _splits(content)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise WorldError(f"{path} cannot be read ({error}). Fetch it again.") from error
