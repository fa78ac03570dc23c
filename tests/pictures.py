"""Small images with known pixels, and sets of them on disk."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

BANDS = {"L": 1, "RGB": 3}
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def picture(number: int, width: int = 3, height: int = 2, mode: str = "RGB") -> Image.Image:
    """Pixel p, counted by rows, has the value number + 20 p + c in channel c, modulo 256."""
    places, bands = range(width * height), range(BANDS[mode])
    values = [(number + 20 * p + c) % 256 for p in places for c in bands]
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.array(values, dtype=np.uint8).reshape(shape))


def pixels(number: int, width: int = 3, height: int = 2, channels: int = 3) -> list[Any]:
    """The same, channels first, written out."""
    return [
        [[number + 20 * (width * y + x) + c for x in range(width)] for y in range(height)]
        for c in range(channels)
    ]


def png(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def write_rows(
    path: Path,
    contents: Sequence[bytes | None],
    labels: Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
    told: bool = True,
    **more: pa.Array,
) -> Path:
    """A parquet file of images and labels, as the hub's are.

    names: classes in the metadata. told: whether there is metadata at all. more: other columns.
    """
    image, label = columns
    cells = [{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(contents)]
    table = pa.table({image: pa.array(cells, STRUCT), label: pa.array(labels), **more})
    written = table.schema.field(label).type
    plain = {"dtype": str(written), "_type": "Value"}
    kind = {"names": list(names), "_type": "ClassLabel"} if names else plain
    features = {image: {"_type": "Image"}, label: kind}
    if told:
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_numbers(path: Path, numbers: Sequence[int], **more: Any) -> Path:
    """A parquet file of the pictures of these numbers; the label is the number modulo 3."""
    contents = [png(picture(number)) for number in numbers]
    return write_rows(path, contents, [number % 3 for number in numbers], **more)


def write_folder(root: Path, classes: Mapping[str, Sequence[int]], **more: Any) -> Path:
    """`root/<class>/<number>.png`, the pictures of these numbers."""
    for name, numbers in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            picture(number, **more).save(root / name / f"{number:03d}.png")
    return root


def numbers_of(inputs: Any) -> list[int]:
    """The numbers that images show."""
    return [int(image[0, 0, 0]) for image in inputs]
