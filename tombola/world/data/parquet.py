"""Image classification in parquet files, as the Hugging Face hub lays them out.

A row is an image, a struct of `bytes` (an image file) and `path`, and a label. The schema's
metadata may say under `huggingface` which columns these are, and what the labels stand for.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.errors import WorldError
from tombola.world.data.encoded import Encoded
from tombola.world.data.labels import numbered
from tombola.world.data.layout import by_split, say_left_out
from tombola.world.data.split import Split

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels", "class", "target", "targets", "y")
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Columns:
    """Which columns are what. classes: what labels of whole numbers stand for, where known."""

    image: str
    label: str
    classes: tuple[str, ...]


def parquet_set(folder: Path, label: str | None = None) -> dict[str, Encoded]:
    """The splits of a folder of parquet files (see `by_split`); empty where there are none.

    label: the column of labels, where several could be.

    Raises:
        WorldError: a file is damaged, its columns cannot be told, or a label is missing or out of
            range.
    """
    paths = (path.relative_to(folder) for path in folder.rglob("*.parquet"))
    shown = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    chosen = by_split(shown, str(folder))
    say_left_out(folder, sorted(set(shown).difference(*chosen.values())))
    files = {split: [folder / path for path in parts] for split, parts in chosen.items()}
    if not files:
        return {}
    told = {path: _columns_in(path, label) for paths in files.values() for path in paths}
    (first, columns), *others = told.items()
    for path, other in others:
        if other != columns:
            raise WorldError(
                f"{path} has other columns or classes than {first}: {other}, not {columns}."
            )
    written = {
        split: [label for path in paths for label in _column(path, columns.label)]
        for split, paths in files.items()
    }
    for split, column in written.items():
        if not column:
            raise WorldError(f"{folder} ({split}): no images; want at least one.")
    labels, classes = numbered(written, columns.classes, str(folder))
    return {
        split: Encoded(f"{folder} ({split})", labels[split], classes, Rows(paths, columns.image))
        for split, paths in files.items()
    }


def published(
    folder: Path, what: str, image: tuple[int, int, int], classes: tuple[str, ...]
) -> dict[str, Split]:
    """train and test of a known set, decoded; empty where there are no parquet files.

    Raises:
        WorldError: the files are damaged, or of another set.
    """
    encoded = parquet_set(folder)
    if set(encoded) not in (set(), {"train", "test"}):
        raise WorldError(
            f"{folder}: the parquet files are of {', '.join(encoded)}; {what} has train and test."
        )
    splits = {}
    for name, part in encoded.items():
        split = part.decoded()
        shape, top = tuple(split.inputs.shape[1:]), int(split.targets.max())
        if shape != image or top >= len(classes):
            raise WorldError(
                f"{folder} ({name}): images of shape {shape} and labels up to {top}; {what} has "
                f"{image} and labels up to {len(classes) - 1}."
            )
        splits[name] = replace(split, classes=classes)
    return splits


@dataclass(frozen=True)
class Rows:
    """The images in a column of several files, one after the other."""

    paths: Sequence[Path]
    column: str

    def __call__(self) -> Iterator[tuple[bytes, str]]:
        for path in self.paths:
            with opened(path) as file:
                batches = file.iter_batches(ROWS_AT_ONCE, columns=[self.column], use_threads=False)
                cells = (cell for batch in batches for cell in batch.column(0).to_pylist())
                for row, cell in enumerate(cells):
                    if not cell or not cell["bytes"]:
                        raise WorldError(
                            f"{path}: row {row} has no bytes in {self.column!r}. Want the image "
                            "files themselves in the parquet file, not only their paths."
                        )
                    named = f" ({cell['path']})" if cell.get("path") else ""
                    yield cell["bytes"], f"{path.name} row {row}{named}"


@contextmanager
def opened(path: Path) -> "Iterator[pq.ParquetFile]":
    """A parquet file, read without starting a thread, for jobs are forked.

    Raises:
        WorldError: whatever is wrong in it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise WorldError(f"{path} cannot be read as parquet ({text}). Fetch it again.") from error


def columns_of(schema: "pa.Schema", where: str, label: str | None = None) -> Columns:
    """Which column holds the images and which the labels.

    label: the column of labels, where several could be.

    Raises:
        WorldError: it cannot be told.
    """
    image, features = image_column(schema, where), features_of(schema)
    label = label_column(schema, where) if label is None else label
    if label not in _with_labels(schema):
        raise WorldError(
            f"{where}: no column {label!r} of whole numbers or text; there are {_said(schema)}."
        )
    return Columns(image, label, tuple(features.get(label, {}).get("names") or ()))


def image_column(schema: "pa.Schema", where: str) -> str:
    """The column that holds the images.

    Raises:
        WorldError: there is none, or several could be.
    """
    import pyarrow.types as kinds

    structs = [field for field in schema if kinds.is_struct(field.type)]
    usable = [field.name for field in structs if field.type.get_field_index("bytes") >= 0]
    told = [name for name in _of_type(schema, "Image") if name in usable]
    image = only_one(told or usable, IMAGE_NAMES)
    if image is None:
        raise WorldError(
            f"{where}: which column holds the images? Want one that is a struct of `bytes` and "
            f"`path`; there are {_said(schema)}."
        )
    return image


def label_column(schema: "pa.Schema", where: str) -> str:
    """The column that holds the labels.

    Raises:
        WorldError: there is none, or several could be.
    """
    usable = _with_labels(schema)
    classed = [name for name in _of_type(schema, "ClassLabel") if name in usable]
    label = only_one(classed or [name for name in usable if name in LABEL_NAMES], LABEL_NAMES)
    if label is None:
        raise WorldError(
            f"{where}: which column holds the labels? There are {_said(schema)}. Say which with "
            "`tombola data import PATH --label COLUMN`."
        )
    return label


def features_of(schema: "pa.Schema") -> dict[str, dict[str, Any]]:
    """What the schema's metadata says of each column; nothing where there is none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def only_one(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The only one of these, or the one with the most usual name."""
    if len(names) == 1:
        return names[0]
    return next((name for name in usual if name in names), None)


def _columns_in(path: Path, label: str | None) -> Columns:
    with opened(path) as file:
        return columns_of(file.schema_arrow, str(path), label)


def _column(path: Path, name: str) -> list[Any]:
    with opened(path) as file:
        values: list[Any] = file.read(columns=[name], use_threads=False).column(0).to_pylist()
        return values


def _of_type(schema: "pa.Schema", kind: str) -> list[str]:
    return [name for name, feature in features_of(schema).items() if feature.get("_type") == kind]


def _with_labels(schema: "pa.Schema") -> list[str]:
    import pyarrow.types as kinds

    return [field.name for field in schema if kinds.is_integer(field.type) or _is_text(field.type)]


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow.types as kinds

    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _said(schema: "pa.Schema") -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)
