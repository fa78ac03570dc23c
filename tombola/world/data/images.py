"""Sets of images, by the name or the path of their folder and whatever their layout."""

import difflib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.values.rng import stream
from tombola.world.data.cifar10 import cifar10, cifar10_batches
from tombola.world.data.encoded import Encoded, alike
from tombola.world.data.folder import data_folder
from tombola.world.data.image_folder import image_folder
from tombola.world.data.mnist import has_idx, idx_set, mnist_images
from tombola.world.data.parquet import parquet_set
from tombola.world.data.split import Split

log = logging.getLogger("tombola")

HELD = 10  # a split that a set lacks is one of so many parts of its training images


def images(
    of: str | Path, data: Path | None = None, *, label: str | None = None
) -> dict[str, Split]:
    """The splits train, validation and test of a set of images.

    of: a name in the folder of data sets, or the path of a folder. It holds parquet files as on the
        Hugging Face hub; or images as `train/<class>/..`, `test/<class>/..`, or `<class>/..` alone;
        or the files of MNIST, CIFAR-10, or of a set published like them.
    data: the folder of data sets; else $TOMBOLA_DATA, else the user's cache folder.
    label: the column of labels in parquet files, where several could be.

    Inputs are uint8 (n, channels, height, width), targets int64 (n,). A split that the set lacks is
    a tenth of its training images (5,000 for MNIST and CIFAR-10), drawn by a fixed permutation.

    Raises:
        WorldError: nothing of that name, images that are damaged or differ in size, labels that are
            missing or out of range.

    Example:
        >>> world = tb.World(model=MyNet, **tb.images("./photos"), prepare=tb.Scaled(), steps=5_000,
        ...                  batch_size=60, optimiser=tb.Adam(lr=1e-3))  # doctest: +SKIP
    """
    if of == "mnist":
        return mnist_images(data)
    if of == "cifar10":
        return cifar10(data)
    folder = find_set(of, data)
    encoded = encoded_images(folder, label)
    if encoded:
        return alike({name: part.decoded() for name, part in completed(encoded, folder).items()})
    splits = published_arrays(folder)
    if not splits:
        raise WorldError(
            f"{folder} has no images: neither parquet files, nor image files in folders named "
            "after their classes, nor those of MNIST or CIFAR-10."
        )
    return completed(splits, folder)


def encoded_images(folder: Path, label: str | None = None) -> dict[str, Encoded]:
    """The splits that a folder of parquet files or of images has; empty where it is neither.

    Raises:
        WorldError: no split to train on, or what the two readers say.
    """
    encoded = parquet_set(folder, label) or image_folder(folder)
    if encoded and "train" not in encoded:
        raise WorldError(
            f"{folder} has {', '.join(encoded)}, but no train; want images to train on."
        )
    return encoded


def published_arrays(folder: Path) -> dict[str, Split]:
    """train and test of the files of MNIST, of CIFAR-10, or of a set published like them; empty
    where there are none.

    Raises:
        WorldError: a file is missing or damaged.
    """
    return idx_set(folder, str(folder)) if has_idx(folder) else cifar10_batches(folder)


class Divisible(Protocol):
    """Examples of which some can be taken."""

    def __len__(self) -> int: ...
    def part(self, index: Tensor) -> Self: ...


T = TypeVar("T", bound=Divisible)


def completed(splits: Mapping[str, T], folder: Path) -> dict[str, T]:
    """train, validation and test; a missing one is held out from train, and said so if it is test.

    Images stay in their order, so that a set reads the same once it is written with all three.
    """
    train, found = splits["train"], dict(splits)
    for name in ("test", "validation"):
        if name not in splits:
            held = max(1, round(len(splits["train"]) / HELD))
            if held >= len(train):
                raise WorldError(
                    f"{folder}: {len(train)} images are too few to hold a {name} split out. Add "
                    "images, or a split."
                )
            order = torch.randperm(len(train), generator=stream(0, "images", name))
            found[name] = train.part(order[:held].sort().values)
            train = train.part(order[held:].sort().values)
            if name == "test":
                log.warning(
                    "%s has no test split: %s of its %s images are held out as test, the same ones "
                    "each time.",
                    folder,
                    f"{held:,}",
                    f"{len(splits['train']):,}",
                )
    return {"train": train, "validation": found["validation"], "test": found["test"]}


def find_set(of: str | Path, data: Path | None = None) -> Path:
    """The folder of a set of images, by its name in the folder of data sets or by its path.

    Raises:
        WorldError: there is none; says which there are.
    """
    text, root = str(of), data_folder(data)
    if isinstance(of, str) and not text.startswith((".", "/", "~")):
        named = root / folder_name(text)
        if named.is_dir():
            return named
    path = Path(of).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise WorldError(f"{path} is a file. Unpack it with `tombola data import {path}`.")
    names = set_names(root)
    there = f"{root} has {', '.join(names)}" if names else f"{root} has none"
    raise WorldError(
        f"no set of images {text!r}, neither in the folder of data sets nor as a path."
        f"{did_you_mean(text, names)} {there}. `tombola data fetch` and `tombola data import` add "
        "more."
    )


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """A hint at near matches, if there are any.

    >>> did_you_mean("minst", ["mnist", "cifar10"])
    ' Did you mean mnist?'
    """
    near = difflib.get_close_matches(text, list(names), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def set_names(root: Path) -> list[str]:
    """The names of the sets in a folder of data sets, sorted."""
    if not root.is_dir():
        return []
    inside = (path.name for path in root.iterdir() if path.is_dir())
    return sorted(set_name(name) for name in inside if not name.startswith("."))


def folder_name(name: str) -> str:
    """The folder of a set: `org/name` of the hub, where no name has two hyphens, is one folder.

    >>> folder_name("zalando-datasets/fashion_mnist"), set_name("zalando-datasets--fashion_mnist")
    ('zalando-datasets--fashion_mnist', 'zalando-datasets/fashion_mnist')
    """
    return name.replace("/", "--")


def set_name(folder: str) -> str:
    """The name of a set in a folder of this name."""
    return folder.replace("--", "/")
