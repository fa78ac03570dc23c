"""Hugging Face `datasets.Dataset`s as data of a world."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import numbers_of, picture, pixels, png, write_rows
from torch import nn

import tombola as tb
from tombola.errors import WorldError
from tombola.world.data.given import Identified, as_split
from tombola.world.data.images import images

datasets = pytest.importorskip("datasets", reason="datasets, an extra of tombola, is not installed")
Array3D, ClassLabel, Features = datasets.Array3D, datasets.ClassLabel, datasets.Features
List, Value = datasets.List, datasets.Value


def table(count: int = 12, **more: Any) -> datasets.Dataset:
    """Images of the numbers from 0 on, labelled by a class of three."""
    columns = {
        "image": [picture(n % 100) for n in range(count)],
        "label": [n % 3 for n in range(count)],
    }
    kinds = {"image": datasets.Image(), "label": ClassLabel(names=["a", "b", "c"])}
    kinds |= {name: Value("int64") for name in more}
    return datasets.Dataset.from_dict({**columns, **more}, features=Features(kinds))


def test_a_table_of_images() -> None:
    split = as_split(table(300, id=list(range(300))), "train")
    assert split.inputs.tolist() == [pixels(n % 100) for n in range(300)]
    assert split.targets.tolist() == [n % 3 for n in range(300)]
    assert (split.inputs.dtype, split.targets.dtype) == (torch.uint8, torch.int64)
    assert split.classes == ("a", "b", "c")
    chosen = as_split(table().select([5, 2]), "train")
    assert numbers_of(chosen.inputs) == [5, 2]
    for kind in ("torch", "numpy"):
        assert as_split(table().with_format(kind), "x").digest == as_split(table(), "x").digest


def test_a_table_in_a_world() -> None:
    world = tb.World(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 3)),
        train=table(),
        test=table(),
        prepare=tb.Scaled(),
        steps=2,
        batch_size=2,
        optimiser=tb.SGD(lr=0.1),
    )
    assert (len(world.train), len(world.validation), len(world.test)) == (11, 1, 12)


def test_what_datasets_writes_is_read_as_it_is_given(tmp_path: Path) -> None:
    written = table()
    written.to_parquet(tmp_path / "train.parquet")
    written.select([1, 2]).to_parquet(tmp_path / "test.parquet")
    written.select([3]).to_parquet(tmp_path / "validation.parquet")
    splits = images(tmp_path)
    assert splits["train"].digest == as_split(written, "train").digest
    assert splits["test"].digest == as_split(written.select([1, 2]), "test").digest
    assert splits["train"].classes == ("a", "b", "c")


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "float64"])
def test_a_table_of_numbers_keeps_their_type(kind: str) -> None:
    numbers = np.arange(12).reshape(3, 1, 2, 2) / (1 if "int" in kind else 7)
    for feature in (Array3D((1, 2, 2), kind), List(List(List(Value(kind))))):
        rows = {"x": numbers.astype(kind).tolist(), "y": [0, 1, 1]}
        made = datasets.Dataset.from_dict(rows, Features({"x": feature, "y": Value("int64")}))
        split = as_split(made, "train")
        assert split.inputs.numpy().dtype == kind
        assert split.inputs.numpy().tolist() == numbers.astype(kind).tolist()
        assert split.targets.tolist() == [0, 1, 1]


def test_targets_may_be_numbers_of_any_kind() -> None:
    made = datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "target": [[0.5, 1.0], [1.5, 2.0]]})
    assert as_split(made, "train").targets.tolist() == [[0.5, 1.0], [1.5, 2.0]]


def test_a_table_with_a_transform_is_read_through_it() -> None:
    def as_floats(batch: dict[str, Any]) -> dict[str, Any]:
        values = [torch.tensor(np.asarray(image)) / 255 for image in batch["image"]]
        return {"pixel_values": values, "label": batch["label"]}

    split = as_split(table().with_transform(as_floats), "train")
    assert split.inputs.shape == (12, 2, 3, 3)
    assert split.targets.tolist() == [n % 3 for n in range(12)]

    def random(batch: dict[str, Any]) -> dict[str, Any]:
        return {"image": [torch.rand(3) for _ in batch["image"]], "label": batch["label"]}

    with pytest.raises(WorldError, match=r"train: item \d+ differs when read twice"):
        as_split(table().with_transform(random), "train")
    named = as_split(Identified(table().with_transform(random), "random"), "train")
    assert named.inputs.shape == (12, 3)


def text_labels() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "label": ["a", "b"]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text_labels, r"labels in 'label' are text.*data\.class_encode_column\('label'\) before"),
        (
            lambda: datasets.Dataset.from_dict({"label": [0]}),
            r"a table with columns label; want one of inputs, or several of numbers.*Take some",
        ),
        (
            lambda: datasets.Dataset.from_dict({"a": [1], "text": ["no"], "label": [0]}),
            r"'text' holds string; want .*data\.remove_columns\('text'\)",
        ),
        (lambda: datasets.Dataset.from_dict({"x": [1], "z": [2]}), r"with columns x, z"),
        (lambda: table().select([]), r"the data set is empty"),
        (lambda: datasets.Dataset.from_dict({"x": ["hello"], "y": [0]}), r"'x' holds string; want"),
        (
            lambda: datasets.Dataset.from_dict({"x": [[1.0], [2.0, 3.0]], "y": [0, 1]}),
            r"rows of 'x' have different sizes",
        ),
        (
            lambda: datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "y": [0, None]}),
            r"image 1 has no label",
        ),
        (
            lambda: datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "y": [0.5, None]}),
            r"the labels in 'y' make no tensor",
        ),
        (
            lambda: table().cast_column("image", datasets.Image(decode=False)),
            r"row 0 of 'image' is dict; want images, decoded",
        ),
        (
            lambda: datasets.DatasetDict(train=table()),
            r"train=DatasetDict: .*one split of a Hugging",
        ),
        (lambda: table().to_iterable_dataset(), r"train=IterableDataset: .*with a length"),
    ],
)
def test_tables_that_cannot_be_used(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        as_split(make(), "train")


def test_images_of_a_table_that_differ_in_size(tmp_path: Path) -> None:
    contents = [png(picture(1))] * 300 + [png(picture(1, width=4))]
    path = write_rows(tmp_path / "train.parquet", contents, [0] * 301)
    made = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path))
    with pytest.raises(
        WorldError, match=r"train, row 0 has 3 x 2 pixels, train, row 300 has 4 x 2"
    ):
        as_split(made, "train")


def test_that_library_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is known by its parts; this one is ours."""
    monkeypatch.setitem(sys.modules, "datasets", None)

    class Feature:
        def __init__(self, kind: str, **more: Any) -> None:
            self._type = kind
            vars(self).update(more)

    class Table:
        features = {"img": Feature("Image"), "y": Feature("ClassLabel", names=["a", "b"])}  # noqa: RUF012
        column_names = ["img", "y"]  # noqa: RUF012
        format = {"type": None}  # noqa: RUF012

        def with_format(self, kind: str | None) -> "Table":
            return self

        def __len__(self) -> int:
            return 2

        def __getitem__(self, key: Any) -> Any:
            columns = {"img": [picture(1), picture(2)], "y": [1, 0]}
            if isinstance(key, str):
                return columns[key]
            return {name: column[key] for name, column in columns.items()}

    split = as_split(Table(), "train")
    assert (numbers_of(split.inputs), split.targets.tolist()) == ([1, 2], [1, 0])
