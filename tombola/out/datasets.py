"""The image sets in the folder of data sets, and those that can be fetched into it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.errors import WorldError
from tombola.out.amounts import several, size
from tombola.out.terminal import columns, grid
from tombola.world.data import cifar10, mnist
from tombola.world.data.encoded import RESIZE, Encoded
from tombola.world.data.folder import data_folder
from tombola.world.data.images import encoded_images, published_arrays, set_name
from tombola.world.data.layout import SPLITS

if TYPE_CHECKING:
    from rich.console import Console

KNOWN = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}  # name here -> name on the hub
CLASSES = {"mnist": mnist.CLASSES, "cifar10": cifar10.CLASSES}
LOOKED_AT = 100  # images of each split whose size is looked at


def data_holdings(data: Path | None = None) -> dict[str, Any]:
    """The document that `tombola data list --json` prints: sets by name, and what can be fetched.

    Folders that hold no images are left out.
    """
    root = data_folder(data)
    folders = sorted(root.iterdir()) if root.is_dir() else []
    shown = [path for path in folders if path.is_dir() and not path.name.startswith(".")]
    return {
        "schema": 1,
        "folder": str(root),
        "sets": [found for path in shown if (found := survey(path)) is not None],
        "to_fetch": [{"name": name, "source": source} for name, source in KNOWN.items()],
    }


def survey(folder: Path) -> dict[str, Any] | None:
    """What a set holds; None if it has no images.

    images: how many in each split. shape: (channels, height, width), where the first hundred of
    each split agree. held_out: splits that are taken from train. problem: why the set cannot be
    used as it is, or null; what could not be told then is null too.
    """
    content = dict.fromkeys(("images", "shape", "classes", "class_names", "held_out", "problem"))
    try:
        facts = _facts(folder)
    except WorldError as error:
        facts = {"problem": str(error)}
    if facts is None:
        return None
    return {
        "name": set_name(folder.name),
        "path": str(folder),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        **content,
        **facts,
    }


def _facts(folder: Path) -> dict[str, Any] | None:
    encoded = encoded_images(folder)
    if encoded:
        labels = {split: part.labels for split, part in encoded.items()}
        names = encoded["train"].classes
        shapes = {shape for part in encoded.values() for shape in _shapes(part)}
    else:
        arrays = published_arrays(folder)
        if not arrays:
            return None
        labels = {split: part.targets for split, part in arrays.items()}
        names = arrays["train"].classes
        shapes = {tuple(part.inputs.shape[1:]) for part in arrays.values()}
    names = names or CLASSES.get(folder.name, ())
    sizes = {shape[1:] for shape in shapes}
    return {
        "images": {split: len(column) for split, column in labels.items()},
        "shape": [max(shape[0] for shape in shapes), *sizes.pop()] if len(sizes) == 1 else None,
        "classes": len(names) or 1 + max(int(column.max()) for column in labels.values()),
        "class_names": list(names) or None,
        "held_out": [split for split in SPLITS if split not in labels],
        "problem": f"images of {len(sizes)} different sizes; {RESIZE}" if len(sizes) > 1 else None,
    }


def _shapes(part: Encoded) -> Iterator[tuple[int, ...]]:
    for picture, _ in islice(part.pictures(), LOOKED_AT):
        yield len(picture.getbands()), picture.height, picture.width


def show_sets(console: "Console", holdings: Mapping[str, Any]) -> None:
    """A row for each set, what is wrong with some, and what could be fetched."""
    table = columns("set", "images", "pixels", right=("classes", "size"))
    for found in holdings["sets"]:
        table.add_row(
            found["name"],
            images_line(found["images"]) if found["images"] else "",
            pixels_line(found["shape"]),
            "" if found["classes"] is None else str(found["classes"]),
            size(found["bytes"]),
        )
    if holdings["sets"]:
        console.print(table)
        console.print()
    for found in holdings["sets"]:
        if found["problem"]:
            console.print(f"{found['name']}: {found['problem']}", style="bold yellow")
    number = len(holdings["sets"])
    console.print(f"{several(number, 'set')} of images in {holdings['folder']}")
    here = {found["name"] for found in holdings["sets"]}
    more = [entry["name"] for entry in holdings["to_fetch"] if entry["name"] not in here]
    console.print(
        f"tombola data fetch: {', '.join([*more, 'org/name of the Hugging Face hub'])}", style="dim"
    )


def show_set(console: "Console", found: Mapping[str, Any]) -> None:
    """One set, and how to use it."""
    said = {found["name"]: f"{found['path']}, {size(found['bytes'])}"}
    if found["images"]:
        said["images"] = f"{images_line(found['images'])}; {pixels_line(found['shape'])}"
        said["classes"] = ", ".join(found["class_names"] or [str(found["classes"])])
        if found["held_out"]:
            said["note"] = f"{' and '.join(found['held_out'])}: held out from train"
    if found["problem"]:
        said["problem"] = found["problem"]
    else:
        said["use"] = f"tombola find imp --on conv2@{found['name']}"
    console.print(grid(said))


def images_line(images: Mapping[str, int]) -> str:
    """How many images each split has.

    >>> images_line({"train": 60_000, "test": 10_000})
    '60,000 train, 10,000 test'
    """
    return ", ".join(f"{number:,} {split}" for split, number in images.items())


def pixels_line(shape: Sequence[int] | None) -> str:
    """Width, height and channels of (channels, height, width).

    >>> pixels_line((3, 32, 24)), pixels_line((1, 28, 28)), pixels_line(None)
    ('24 x 32, colour', '28 x 28, grey', '')
    """
    if shape is None:
        return ""
    return f"{shape[2]} x {shape[1]}, {'grey' if shape[0] == 1 else 'colour'}"
