"""Images as the bytes of image files (PNG, JPEG and so on), and their way to tensors."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tombola.errors import WorldError
from tombola.world.data.split import Split

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

RESIZE = "`tombola data import PATH --size N` makes a set of N x N pixels"


@dataclass(frozen=True, eq=False)
class Encoded:
    """One split of images as it lies on disk.

    where: what messages call it. labels: int64 (n,). classes: what they stand for; empty where the
    files do not say. read: starts over at each call; the bytes of each image file, and where they
    are from.
    """

    where: str
    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[], Iterable[tuple[bytes, str]]]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, index: Tensor) -> "Encoded":
        """The images at these places, in the order in which they lie on disk."""
        wanted = torch.zeros(len(self), dtype=torch.bool)
        wanted[index] = True
        chosen = wanted.tolist()

        def read() -> Iterator[tuple[bytes, str]]:
            for place, item in enumerate(self.read()):
                if chosen[place]:
                    yield item

        return replace(self, labels=self.labels[wanted], read=read)

    def pictures(self) -> "Iterator[tuple[Image, str]]":
        """Every image, upright, grey or in three colours; and where it is from.

        Raises:
            WorldError: an image cannot be decoded, or has more than 8 bits a channel.
        """
        for data, name in self.read():
            yield picture_of(data, f"{self.where}: {name}"), name

    def decoded(self) -> Split:
        """All images in memory: uint8 (n, channels, height, width), 0 to 255.

        Raises:
            WorldError: an image is damaged, their sizes differ, or they do not fit into memory.
        """
        arrays = (
            (channels_first(picture), f"{self.where}: {name}") for picture, name in self.pictures()
        )
        return Split(stacked(arrays, len(self), self.where), self.labels, self.classes)


def picture_of(data: bytes, where: str) -> "Image":
    """An image file's content, upright, grey or in three colours.

    Raises:
        WorldError: it cannot be decoded, or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        picture: Image.Image = Image.open(BytesIO(data))
        if "exif" in picture.info:  # a camera that was held sideways says so there
            picture = ImageOps.exif_transpose(picture)
        picture.load()
        return plain(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "Pillow knows no such format" if unknown else str(error)
        raise WorldError(f"{where}: not an image that can be read ({reason}).") from error


def plain(picture: "Image") -> "Image":
    """The same picture in grey or in three colours; transparency is dropped.

    Raises:
        ValueError: it has more than 8 bits a channel.
    """
    if picture.mode in ("L", "RGB"):
        return picture
    if picture.mode in ("1", "LA", "La"):
        return picture.convert("L")
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise ValueError(f"mode {picture.mode}: more than 8 bits a channel")
    if "transparency" in picture.info:  # Pillow warns where a palette is to lose it at once
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def channels_first(picture: "Image") -> Pixels:
    """The pixels of a plain picture, uint8 (1 or 3, height, width).

    >>> from PIL import Image
    >>> channels_first(Image.new("RGB", (2, 1), (1, 2, 3))).tolist()
    [[[1, 1]], [[2, 2]], [[3, 3]]]
    """
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def is_picture(value: Any) -> bool:
    """Whether this is an image of Pillow, which need not be imported for the question."""
    return hasattr(value, "convert") and hasattr(value, "mode")


def pixels_of(picture: "Image", where: str) -> Pixels:
    """The pixels of any picture, uint8 (1 or 3, height, width).

    Raises:
        WorldError: it has more than 8 bits a channel.
    """
    try:
        return channels_first(plain(picture))
    except ValueError as error:
        raise WorldError(f"{where}: an image that cannot be used ({error}).") from error


def stacked(arrays: Iterable[tuple[Pixels, str]], count: int, where: str) -> Tensor:
    """So many images of one size as one tensor, uint8 (count, channels, height, width).

    arrays: (channels, height, width), and what messages call it. Grey images among coloured ones
    get three equal channels.

    Raises:
        WorldError: sizes differ, or the images do not fit into memory.
    """
    images, first = np.empty((0, 0, 0, 0), dtype=np.uint8), ""
    for place, (array, name) in enumerate(arrays):
        if place == 0:
            _check_memory(count * array.nbytes, where)
            images, first = np.empty((count, *array.shape), dtype=np.uint8), name
        if array.shape[1:] != images.shape[2:]:
            raise different_sizes(first, images.shape[2:], name, array.shape[1:])
        if array.shape[0] > images.shape[1]:
            _check_memory(3 * images.nbytes, where)
            images = images.repeat(3, axis=1)
        images[place] = array
    return torch.from_numpy(images)


def alike(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Splits of images with one number of channels: all coloured if one is.

    Raises:
        WorldError: their images have different sizes.
    """
    shapes = {name: tuple(split.inputs.shape[1:]) for name, split in splits.items()}
    channels = max(shape[0] for shape in shapes.values())
    (first, size), *others = ((name, shape[1:]) for name, shape in shapes.items())
    for name, other in others:
        if other != size:
            raise different_sizes(first, size, name, other)
    return {
        name: split
        if shapes[name][0] == channels
        else replace(split, inputs=split.inputs.repeat(1, channels, 1, 1))
        for name, split in splits.items()
    }


def different_sizes(
    first: str, size: tuple[int, ...], other: str, other_size: tuple[int, ...]
) -> WorldError:
    """The error for two images, or splits, whose (height, width) differ."""
    return WorldError(
        f"images of different sizes: {first} has {size[1]} x {size[0]} pixels, {other} has "
        f"{other_size[1]} x {other_size[0]}. Want one size for all; {RESIZE}."
    )


def _check_memory(wanted: int, where: str) -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > there:
        raise WorldError(
            f"{where}: the images would take {wanted / 1e9:.1f} GB in memory, and this machine has "
            f"{there / 1e9:.1f} GB. Make them smaller: {RESIZE}."
        )
