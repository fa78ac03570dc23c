"""Data sets: split, checked at the door, read from their files."""

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from tombola.errors import WorldError
from tombola.world.batch import Batch, leaves, nested
from tombola.world.data.digits import digits
from tombola.world.data.folder import data_folder, find_file
from tombola.world.data.given import as_split
from tombola.world.data.mnist import mnist, read_idx
from tombola.world.data.split import Split
from tombola.world.prepare import AsIs, Scaled

X, Y = torch.arange(24.0).reshape(8, 3), torch.arange(8) % 3


# -- splits --------------------------------------------------------------------------------------


def test_a_split_takes_examples_in_the_order_asked() -> None:
    batch = Split({"a": X, "b": (Y, Y + 1)}, Y).take(torch.tensor([5, 0, 5]))
    assert batch.inputs["a"].tolist() == [X[5].tolist(), X[0].tolist(), X[5].tolist()]
    assert batch.inputs["b"][1].tolist() == [3, 1, 3]
    assert (batch.targets.tolist(), batch.index.tolist()) == ([2, 0, 2], [5, 0, 5])
    part = Split(X, Y).part(torch.tensor([1, 2]))
    assert (len(part), part.targets.tolist()) == (2, [1, 2])


def test_the_digest_of_a_split_is_of_its_content() -> None:
    same = [
        Split(X, Y),
        Split(X.clone(), Y.clone()),
        as_split((X, Y), "a"),
        as_split([X, Y], "b"),
        as_split(TensorDataset(X, Y), "c"),
        as_split(Split(X, Y), "d"),
    ]
    assert len({split.digest for split in same}) == 1
    others = [
        Split(X, Y + 1),
        Split(X + 1, Y),
        Split(X.flip(0), Y),
        Split(X.double(), Y),
        Split((X,), Y),
        Split({"x": X}, Y),
        Split(X[:7], Y[:7]),
        Split(X[..., None], Y),
    ]
    assert len({same[0].digest, *(split.digest for split in others)}) == len(others) + 1


def test_nested_tensors_are_walked_in_order() -> None:
    value = {"a": (X, [Y]), "b": 3}
    assert leaves(value) == [X, Y]
    assert nested(len, value) == {"a": (8, [8]), "b": 3}


class Items(Dataset[Any]):
    """A map-style data set over a function of the place."""

    def __init__(self, length: int, item: Callable[[int], Any]) -> None:
        self.length, self.item = length, item

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> Any:
        return self.item(place)


def test_a_data_set_is_read_as_if_it_were_tensors() -> None:
    tensors = as_split((X, Y), "train")
    items = [lambda i: (X[i], Y[i]), lambda i: (X[i], int(Y[i])), lambda i: [X[i].numpy(), Y[i]]]
    for item in items:
        assert as_split(Items(8, item), "train").digest == tensors.digest
    named = as_split(Items(8, lambda i: ({"x": X[i]}, int(Y[i]))), "train")
    assert named.inputs["x"].equal(X)


def test_a_data_set_that_changes_between_reads_is_refused() -> None:
    flips = Items(64, lambda i: (X[i % 8].flip(0) if torch.rand(1) < 0.5 else X[i % 8], 0))
    noise = Items(8, lambda i: (X[i] + torch.randn(3), int(Y[i])))
    for seed in range(8):
        torch.manual_seed(seed)
        for data in (flips, noise):
            with pytest.raises(WorldError, match=r"train: item \d+ differs when .*`prepare`"):
                as_split(data, "train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, r"train=int: want a pair"),
        ((X,), r"train=tuple: want a pair"),
        ((X, Y, Y), r"train=tuple: want a pair"),
        ((["a", "b"], Y), r"train: the inputs hold str \('a'\); want tensors or arrays"),
        ((X, [0, 1]), r"train: the targets hold int \(0\); want tensors or arrays of numbers"),
        ((X, Y[:7]), r"train: lengths differ, \{'inputs': \[8\], 'targets': \[7\]\}; want one"),
        (((X, X[:7]), Y), r"train: lengths differ, \{'inputs': \[8, 7\]"),
        ((torch.tensor(1.0), Y), r"train: a tensor of the inputs has no example dimension"),
        ((X[:0], Y[:0]), r"train: no examples; want at least one"),
        ((X.masked_fill(X == 10, math.nan), Y), r"the inputs have NaN or .*, first in example 3\."),
        ((X.masked_fill(X == 22, -math.inf), Y), r"have NaN or infinity, first in example 7\."),
        ((X, Y.float() / 0 * 0), r"the targets have NaN or infinity, first in example 0\."),
        (Items(0, lambda i: (X[i], 0)), r"train: the data set is empty"),
        (Items(4, lambda i: X[i]), r"train: items are Tensor; want pairs"),
        (
            Items(4, lambda i: (X[i], 0, 0)),
            r"train: items are list of 3; want pairs \(input, target",
        ),
        (Items(4, lambda i: (X[i] * float("nan"), 0)), r"the inputs have NaN or infinity"),
    ],
)
def test_data_that_cannot_be_used_is_named(data: Any, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        as_split(data, "train")


def test_preparing_makes_new_batches() -> None:
    batch = Batch(torch.tensor([[0, 51, 255]], dtype=torch.uint8), Y[:1], torch.tensor([0]))
    assert AsIs()(batch, None) is batch
    scaled = Scaled()(batch, None)
    assert scaled.inputs.tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    assert (scaled.inputs.dtype, batch.inputs.tolist()) == (torch.float32, [[0, 51, 255]])
    assert Scaled(mean=51, scale=51)(batch, None).inputs.tolist() == [[-1.0, 0.0, 4.0]]
    floats = Batch(X[:2], Y[:2], torch.tensor([0, 1]))
    Scaled()(floats, None)
    assert X[1].tolist() == [3.0, 4.0, 5.0]  # not written into


# -- digits --------------------------------------------------------------------------------------


def rows(split: Split) -> set[tuple[float, ...]]:
    return {tuple(row) for row in torch.cat([split.inputs, split.targets[:, None]], 1).tolist()}


def test_digits_are_split_without_overlap() -> None:
    parts = digits()
    assert {name: len(split) for name, split in parts.items()} == {
        "train": 1_077,
        "validation": 360,
        "test": 360,
    }
    everything = [rows(split) for split in parts.values()]
    assert len(set().union(*everything)) == sum(map(len, everything)) == 1_797
    for split in parts.values():
        assert (split.inputs.shape[1:], split.inputs.dtype) == (torch.Size([64]), torch.float32)
        assert (float(split.inputs.min()), float(split.inputs.max())) == (0.0, 1.0)
        assert split.targets.bincount().min() >= 25  # all ten, about evenly
        assert split.targets.dtype is torch.int64
    assert {name: split.digest[:16] for name, split in parts.items()} == {
        "train": "901f234c3ba475f0",
        "validation": "ec1c282be1bec17c",
        "test": "71e52d4407220008",
    }


# -- MNIST ---------------------------------------------------------------------------------------


def idx(array: Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.dim()]) + sizes + array.to(torch.uint8).numpy().tobytes()


IMAGES = torch.arange(10 * 6).reshape(10, 2, 3) * 4
LABELS = torch.arange(10)


def write(root: Path, packed: bool = True, **changes: bytes) -> Path:
    """The four files in small: ten images of 2 x 3 for training, three for the test."""
    files = {
        "train-images-idx3-ubyte": idx(IMAGES),
        "train-labels-idx1-ubyte": idx(LABELS),
        "t10k-images-idx3-ubyte": idx(IMAGES[:3] + 1),
        "t10k-labels-idx1-ubyte": idx(LABELS[:3]),
    }
    (root / "mnist").mkdir(parents=True)
    for name, content in files.items():
        content = changes.get(name.split("-idx")[0].replace("-", "_"), content)
        path = root / "mnist" / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return root


@pytest.mark.parametrize("packed", [True, False])
def test_small_files_are_read_and_split(tmp_path: Path, packed: bool) -> None:
    parts = mnist(write(tmp_path, packed), validation=4)
    assert {name: len(split) for name, split in parts.items()} == {
        "train": 6,
        "validation": 4,
        "test": 3,
    }
    seen = torch.cat([parts["train"].targets, parts["validation"].targets])
    assert sorted(seen.tolist()) == list(range(10))
    for name, shift in (("train", 0), ("validation", 0), ("test", 1)):
        split = parts[name]
        assert (split.inputs.dtype, split.targets.dtype) == (torch.uint8, torch.int64)
        for image, label in zip(split.inputs, split.targets, strict=True):
            assert image.tolist() == [24 * int(label) + 4 * i + shift for i in range(6)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": idx(IMAGES)[:-1]},
            r"train-images.* is cut short or too long: .*\(10, 2, 3\), it holds 59",
        ),
        ({"train_images": idx(IMAGES) + b"x"}, r"holds 61 bytes"),
        ({"train_images": idx(LABELS)}, r"train-images.* not an IDX file of 3-dimensional bytes"),
        ({"train_labels": idx(IMAGES)}, r"train-labels.* not an IDX file of 1-dimensional bytes"),
        ({"train_labels": idx(LABELS[:9])}, r"MNIST train: lengths differ, .*\[10\].*\[9\]"),
        ({"t10k_labels": idx(LABELS[:4])}, r"MNIST t10k: lengths differ"),
        ({"t10k_images": b"PNG"}, r"t10k-images.* is not an IDX file"),
        ({"t10k_images": b""}, r"t10k-images.* is not an IDX file"),
        ({"t10k_images": bytes([0, 0, 8, 3, 0, 0])}, r"is not an IDX file"),
        ({"t10k_images": bytes([0, 0, 13, 3]) + bytes(12)}, r"is not an IDX file"),  # floats
    ],
)
def test_files_cut_short_or_foreign_are_named(
    tmp_path: Path, changes: dict[str, bytes], message: str
) -> None:
    with pytest.raises(WorldError, match=message):
        mnist(write(tmp_path, **changes))


def test_a_packed_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "mnist" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for content in (whole[:-9], whole[:20], b"not gzip at all", bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(WorldError, match=r"train-images-idx3-ubyte.gz cannot be read .*again"):
            mnist(tmp_path)


def test_what_is_missing_is_looked_for_in_a_named_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = rf"MNIST not found; looked for {tmp_path}/mnist/train-images-idx3-ubyte\.gz, .*--data"
    with pytest.raises(WorldError, match=wanted):
        mnist(tmp_path)
    monkeypatch.setenv("TOMBOLA_DATA", str(tmp_path / "named"))
    assert data_folder() == tmp_path / "named"
    assert data_folder(tmp_path) == tmp_path
    monkeypatch.setenv("TOMBOLA_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "tombola"
    (tmp_path / "b").touch()
    assert find_file(tmp_path, ("a", "b"), "it", "") == tmp_path / "b"


def test_idx_arrays_have_their_sizes_in_front() -> None:
    array = torch.arange(24).reshape(2, 3, 4)
    assert read_idx(idx(array), "here", 3).tolist() == array.tolist()
    empty = read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 0]), "here", 1)
    assert empty.tolist() == []


def test_the_real_files(mnist_data: Path) -> None:
    parts = mnist(mnist_data)
    assert {name: len(split) for name, split in parts.items()} == {
        "train": 55_000,
        "validation": 5_000,
        "test": 10_000,
    }
    for split in parts.values():
        assert (split.inputs.shape[1:], split.inputs.dtype) == (torch.Size([784]), torch.uint8)
        assert (int(split.inputs.min()), int(split.inputs.max())) == (0, 255)
        assert set(split.targets.unique().tolist()) == set(range(10))
    labels = torch.cat([parts["train"].targets, parts["validation"].targets])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert labels.bincount().tolist() == counts
    assert parts["test"].targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    mean = torch.cat([parts["train"].inputs, parts["validation"].inputs]).float().mean() / 255
    assert float(mean) == pytest.approx(0.1307, abs=1e-4)
