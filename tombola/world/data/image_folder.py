"""Images in folders named after their classes: `train/<class>/..` and so on, or `<class>/..`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tombola.errors import WorldError
from tombola.world.data.encoded import Encoded
from tombola.world.data.labels import numbered
from tombola.world.data.layout import SPLITS, WORDS, say_left_out

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
)


def image_folder(folder: Path) -> dict[str, Encoded]:
    """The splits of a folder of images; empty where it holds none. Classes are numbered in
    alphabetical order; what is deeper inside the folder of a class belongs to it.

    Raises:
        WorldError: an image has no class, a class has no images to train on, or is in another split
            alone.
    """
    if not any(image_files(folder)):
        return {}
    while _is_wrapping(folder):
        (folder,) = folders_in(folder)
    roots = _roots(folder)
    files = {split: _by_class(root) for split, root in roots.items()}
    if "train" not in files:
        raise WorldError(f"{folder} has {', '.join(files)}, but no train; want images to train on.")
    for split, found in files.items():
        _check(found, files["train"], roots[split], roots["train"])
    written = {
        split: [name for name, paths in found.items() for _ in paths]
        for split, found in files.items()
    }
    labels, classes = numbered(written, (), str(folder))
    return {
        split: Encoded(
            where=str(roots[split]),
            labels=labels[split],
            classes=classes,
            read=Files(roots[split], [path for paths in found.values() for path in paths]),
        )
        for split, found in files.items()
    }


@dataclass(frozen=True)
class Files:
    """Image files, one after the other, named as seen from `root`."""

    root: Path
    paths: Sequence[Path]

    def __call__(self) -> Iterator[tuple[bytes, str]]:
        for path in self.paths:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise WorldError(f"{path} cannot be read ({error}).") from error
            yield data, str(path.relative_to(self.root))


def image_files(folder: Path) -> Iterator[Path]:
    """Image files in a folder and those inside it, in no order; hidden ones are left out."""
    for path in folder.rglob("*"):
        shown = not any(_is_hidden(part) for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and shown and path.is_file():
            yield path


def folders_in(folder: Path) -> list[Path]:
    """The folders inside, sorted; hidden ones are left out."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _is_hidden(p.name))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _loose(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)


def _is_wrapping(folder: Path) -> bool:
    """Whether there is nothing but one folder in it, as in many an archive."""
    inner = folders_in(folder)
    return len(inner) == 1 and inner[0].name.lower() not in WORDS and not _loose(folder)


def _roots(folder: Path) -> dict[str, Path]:
    """The folder of each split; the whole is `train` if none is named after a split."""
    roots: dict[str, Path] = {}
    inner = folders_in(folder)
    for inside in inner:
        split = WORDS.get(inside.name.lower())
        if split in roots:
            raise WorldError(f"{inside} and {roots[split]} are both {split}; want one of them.")
        if split:
            roots[split] = inside
    if not roots:
        return {"train": folder}
    others = (path for path in inner if path not in roots.values())
    say_left_out(folder, [path.name for path in others if any(image_files(path))])
    return {split: roots[split] for split in SPLITS if split in roots}


def _by_class(root: Path) -> dict[str, list[Path]]:
    """The images of each class, both sorted."""
    if loose := _loose(root):
        raise WorldError(
            f"{loose[0]} has no class. Put every image into a folder named after its class, as "
            f"{root / 'cat' / loose[0].name}."
        )
    return {inside.name: sorted(image_files(inside)) for inside in folders_in(root)}


def _check(
    found: Mapping[str, Sequence[Path]],
    known: Mapping[str, Sequence[Path]],
    root: Path,
    train: Path,
) -> None:
    """The classes of one split are those of train, which has images of each."""
    for name, paths in found.items():
        if name not in known:
            raise WorldError(
                f"{root / name}: there is no such class in {train}, but {', '.join(known)}."
            )
        if root == train and not paths:
            raise WorldError(
                f"{root / name}: no images to train on. Want image files "
                f"({', '.join(sorted(SUFFIXES))}); or remove the folder."
            )
    if not any(found.values()):
        raise WorldError(f"{root}: no images; want folders of them, one for each class.")
