"""Images of the user's own, written as a set into the folder of data sets."""

import json
import lzma
import os
import re
import secrets
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tombola.errors import CallError, WorldError
from tombola.world.data.encoded import Encoded, different_sizes
from tombola.world.data.folder import data_folder
from tombola.world.data.image_folder import SUFFIXES
from tombola.world.data.images import completed, encoded_images

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

NAME = re.compile(r"(?!.*--)[A-Za-z0-9][A-Za-z0-9._-]*")  # two hyphens are the hub's org/name
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
UNPACKING = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,  # a password is wanted
)
ROWS_AT_ONCE = 256

Tell = Callable[[str, int, int], None]  # called with a split, images done, and all of them


def quietly(split: str, done: int, total: int) -> None:
    """Tell nobody."""


def import_images(
    source: Path,
    name: str | None = None,
    data: Path | None = None,
    *,
    size: int | None = None,
    label: str | None = None,
    tell: Tell = quietly,
) -> Path:
    """Write images as `<data>/<name>/{train,validation,test}-00000-of-00001.parquet`: a row for
    each, with its pixels as PNG, its label, and where it is from. Returns the folder of the set.

    source: a folder as in `images`, or a .zip or .tar of one. name: default, that of the source.
    size: make all images so many pixels wide and high, from the largest square in the middle.
    label: the column of labels in parquet files, where several could be.

    The set reads as what `images` reads from the source itself, if no size is given. Nothing is
    left of a set that could not be written whole.

    Raises:
        CallError: a name that cannot be one, or is taken; a size below 1.
        WorldError: the source is not there, damaged, unsafe to unpack, or what `images` says.
    """
    name = default_name(source) if name is None else name
    if not NAME.fullmatch(name):
        raise CallError(
            f"{name!r} cannot name a set: want letters, digits, dots and single hyphens. Choose a "
            "name with --as."
        )
    if size is not None and size < 1:
        raise CallError(f"--size {size}: want a number of pixels, 1 or more.")
    if not os.path.exists(source):
        raise WorldError(f"{source}: there is no such folder or file.")
    with new_set(data_folder(data) / name) as folder, unpacked(source, folder) as found:
        splits = encoded_images(found, label)
        if not splits:
            raise WorldError(
                f"{source} has no images: neither parquet files, nor image files "
                f"({', '.join(sorted(SUFFIXES))}) in folders named after their classes."
            )
        write = _Writing(size, tell)
        for split, part in completed(splits, source).items():
            write(part, split, folder / parquet_name(split))
    return data_folder(data) / name


def default_name(source: Path) -> str:
    """The name of a folder or an archive, without its ending.

    >>> default_name(Path("some/photos.tar.gz")), default_name(Path("v1.2/photos"))
    ('photos', 'photos')
    """
    name = source.resolve().name
    ending = next((e for e in ARCHIVES if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def parquet_name(split: str) -> str:
    """What the one file of a split is called on the hub."""
    return f"{split}-00000-of-00001.parquet"


@contextmanager
def new_set(final: Path) -> Iterator[Path]:
    """A folder to write into: it becomes `final` if all goes well, and is removed if not, with
    those that were made for it.

    Raises:
        CallError: there is something at `final` already.
        WorldError: the folder of data sets cannot be written to.
    """
    if os.path.exists(final):  # not Path.exists, which raises where the name is too long for one
        raise CallError(
            f"{final} is there already. Remove it first, or choose another name with --as."
        )
    folder = final.parent / f".{final.name}-{secrets.token_hex(4)}"
    above = [parent for parent in final.parents if not os.path.exists(parent)]
    try:
        folder.mkdir(parents=True)
        try:
            yield folder
            folder.rename(final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in above:
                with suppress(OSError):  # there is a set in it
                    parent.rmdir()
    except OSError as error:
        raise WorldError(f"{final} cannot be written ({error}).") from error


@contextmanager
def unpacked(source: Path, beside: Path) -> Iterator[Path]:
    """A folder with the images and parquet files of an archive, gone afterwards; a folder itself.

    beside: where there is room to unpack.

    Raises:
        WorldError: neither folder nor archive, damaged, protected, or unsafe to unpack.
    """
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(dir=beside, prefix="unpacked-") as place:
        try:
            if zipfile.is_zipfile(source):
                _unzip(source, Path(place))
            elif tarfile.is_tarfile(source):
                _untar(source, Path(place))
            else:
                raise WorldError(
                    f"{source} is neither a folder nor a .zip or .tar that can be read; it may be "
                    "cut short. Get it again, or unpack it yourself."
                )
        except UNPACKING as error:
            raise WorldError(
                f"{source} cannot be unpacked ({error}). Get it again, or unpack it yourself."
            ) from error
        try:
            yield Path(place)
        except WorldError as error:  # say where it is in the archive
            raise WorldError(str(error).replace(place, str(source))) from error


def _unzip(source: Path, place: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if not member.is_dir() and (target := _target(source, member.filename, place)):
                with archive.open(member) as file:
                    _copy(file, target)


def _untar(source: Path, place: Path) -> None:
    with tarfile.open(source) as archive:
        for member in archive:
            if not member.isdir() and (target := _target(source, member.name, place)):
                file = archive.extractfile(member) if member.isfile() else None
                if file is None:
                    raise WorldError(
                        f"{source}: {member.name} is a link, which may point anywhere. Pack the "
                        "files themselves."
                    )
                with file:
                    _copy(file, target)
        while archive.fileobj and archive.fileobj.read(2**20):
            pass  # to the end, where a packed archive has its checksum


def _target(source: Path, name: str, place: Path) -> Path | None:
    """Where a file of an archive goes; nowhere if it can hold no images.

    Raises:
        WorldError: it would go outside of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise WorldError(
            f"{source} wants to write outside of its folder ({name!r}); it is not unpacked."
        )
    return place / path if path.suffix.lower() in SUFFIXES | {".parquet"} else None


def _copy(file: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        shutil.copyfileobj(file, out)


class _Writing:
    """Writes the splits of one set, whose images all have one size."""

    def __init__(self, size: int | None, tell: Tell) -> None:
        self._size, self._tell = size, tell
        self._first: tuple[str, tuple[int, ...]] | None = None

    def __call__(self, part: Encoded, split: str, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = schema_of(part.classes)
        rows: list[dict[str, Any]] = []
        with pq.ParquetWriter(path, schema) as writer:
            for place, (picture, name) in enumerate(part.pictures()):
                png = lossless(self._sized(picture, f"{part.where}: {name}"))
                image = {"bytes": png, "path": name}
                rows.append({"image": image, "label": int(part.labels[place])})
                if len(rows) == ROWS_AT_ONCE or place + 1 == len(part):
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows = []
                    self._tell(split, place + 1, len(part))

    def _sized(self, picture: "Image", where: str) -> "Image":
        if self._size is not None:
            return middle_square(picture, self._size)
        size = (picture.height, picture.width)
        self._first = self._first or (where, size)
        if size != self._first[1]:
            raise different_sizes(*self._first, where, size)
        return picture


def middle_square(picture: "Image", size: int) -> "Image":
    """The largest square in the middle, `size` pixels wide and high."""
    from PIL import Image

    side = min(picture.width, picture.height)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def schema_of(classes: tuple[str, ...]) -> "pa.Schema":
    """The columns of a set, with the metadata by which `datasets` knows them."""
    import pyarrow as pa

    label = (
        {"names": list(classes), "_type": "ClassLabel"}
        if classes
        else {"dtype": "int64", "_type": "Value"}
    )
    features = {"image": {"_type": "Image"}, "label": label}
    return pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def lossless(picture: "Image") -> bytes:
    """A PNG of the pixels alone, without what cameras and editors add."""
    from PIL import Image

    with BytesIO() as file:
        Image.fromarray(np.asarray(picture)).save(file, "PNG")
        return file.getvalue()
