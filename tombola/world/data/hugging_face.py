"""Rows of a Hugging Face `datasets.Dataset`; that library need not be installed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tombola.errors import WorldError
from tombola.world.data.encoded import Pixels, is_picture, pixels_of, stacked
from tombola.world.data.labels import numbered
from tombola.world.data.parquet import IMAGE_NAMES, LABEL_NAMES, only_one
from tombola.world.data.split import Split

ROWS_AT_ONCE = 256
NUMBERS = frozenset(
    ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
)


def is_table(data: Any) -> bool:
    """Whether this is a `datasets.Dataset`: rows under the names of columns with features."""
    parts = ("features", "column_names", "format", "with_format", "__len__", "__getitem__")
    return all(hasattr(data, part) for part in parts) and isinstance(data.column_names, list)


def read_table(data: Any, name: str) -> Split | Dataset[Any]:
    """All rows in memory: images as uint8 (n, channels, height, width), else tensors of the
    feature's type. A table with a transform of the user's own is given back as pairs, to be read
    like any Dataset.

    The target is the column of class labels, or the one that is named like it. The input is the
    column of images, or the only other one; of several columns of numbers, such as a tokeniser
    makes, a dict by their names. Of a table with a format, the columns of that format count.

    Raises:
        WorldError: the columns cannot be told, inputs differ in size, or labels are missing, text
            or out of range.
    """
    transformed = data.format["type"] == "custom"
    names = list(data[0]) if transformed else list(data.format.get("columns") or data.column_names)
    inputs, label = _columns(data.features, names, name)
    if transformed:
        return Pairs(data, inputs, label)
    targets, classes = _targets(data, label, name)
    if _kind(data.features[inputs[0]]) == "Image":
        images = stacked(_images(data.with_format(None), inputs[0], name), len(data), name)
        return Split(images, targets, classes)
    found = {column: _numbers(data, column, inputs, name) for column in inputs}
    return Split(found if len(inputs) > 1 else found[inputs[0]], targets, classes)


def _numbers(data: Any, column: str, inputs: tuple[str, ...], name: str) -> Tensor:
    """A column as one tensor."""
    feature = data.features[column]
    while hasattr(feature, "feature"):  # lists of lists of numbers
        feature = feature.feature
    kind = str(getattr(feature, "dtype", _kind(feature)))
    if kind not in NUMBERS:
        leave = f", or leave it out with data.remove_columns({column!r})" if len(inputs) > 1 else ""
        raise WorldError(f"{name}: column {column!r} holds {kind}; want images or numbers{leave}.")
    numbers = data.with_format("numpy", columns=[column], dtype=np.dtype(kind))[:][column]
    if not isinstance(numbers, np.ndarray) or numbers.dtype == object:
        raise WorldError(
            f"{name}: the rows of {column!r} have different sizes; want one for all. A tokeniser "
            'pads with padding="max_length"; tombola.Collated(data, ..) takes a function that pads.'
        )
    return torch.tensor(numbers)


class Pairs(Dataset[Any]):
    """The rows of a table as pairs (input, target); several inputs are a dict."""

    def __init__(self, rows: Any, inputs: tuple[str, ...], label: str) -> None:
        self._rows, self._inputs, self._label = rows, inputs, label

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        row = self._rows[place]
        found = {name: row[name] for name in self._inputs}
        return found if len(found) > 1 else found[self._inputs[0]], row[self._label]


def _columns(features: Any, names: list[str], name: str) -> tuple[tuple[str, ...], str]:
    """The columns of inputs and that of targets."""
    classed = [n for n in names if n in features and _kind(features[n]) == "ClassLabel"]
    label = only_one(classed or [n for n in names if n in LABEL_NAMES], LABEL_NAMES)
    others = [n for n in names if n != label]
    pictures = [n for n in others if n in features and _kind(features[n]) == "Image"]
    only = only_one(pictures or others, IMAGE_NAMES)
    inputs = (only,) if only is not None else () if pictures else tuple(others)
    if label is None or not inputs:
        raise WorldError(
            f"{name}: a table with columns {', '.join(names)}; want one of inputs, or several of "
            "numbers, and one of labels. Take some with data.select_columns([..]); name the labels "
            "`label`."
        )
    return inputs, label


def _kind(feature: Any) -> str:
    return str(getattr(feature, "_type", ""))


def _targets(data: Any, label: str, name: str) -> tuple[Tensor, tuple[str, ...]]:
    classes = tuple(getattr(data.features[label], "names", None) or ())
    column = list(data.with_format(None)[label])
    if any(isinstance(value, str) for value in column):
        raise WorldError(
            f"{name}: the labels in {label!r} are text, which splits may number differently. Make "
            f"numbers of them with data.class_encode_column({label!r}) before you split the data."
        )
    if all(value is None or isinstance(value, int) for value in column):
        numbers, classes = numbered({name: column}, classes, "the table")
        return numbers[name], classes
    try:
        return torch.tensor(column), classes
    except (RuntimeError, TypeError, ValueError) as error:
        raise WorldError(f"{name}: the labels in {label!r} make no tensor ({error}).") from error


def _images(data: Any, column: str, name: str) -> Iterator[tuple[Pixels, str]]:
    for start in range(0, len(data), ROWS_AT_ONCE):
        pictures = data[start : start + ROWS_AT_ONCE][column]
        for row, picture in enumerate(pictures, start):
            if not is_picture(picture):
                raise WorldError(
                    f"{name}: row {row} of {column!r} is {type(picture).__name__}; want images, "
                    "decoded: data.cast_column with datasets.Image(decode=True)."
                )
            where = f"{name}, row {row}"
            yield pixels_of(picture, where), where
