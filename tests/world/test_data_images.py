"""Images on disk: parquet files, folders of classes, IDX and CIFAR-10's batches, read as splits."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pictures import (
    numbers_of,
    picture,
    pixels,
    png,
    write_folder,
    write_numbers,
    write_rows,
)
from PIL import Image

from tombola.errors import WorldError
from tombola.values.rng import stream
from tombola.world.data import encoded
from tombola.world.data.cifar10 import CLASSES, cifar10
from tombola.world.data.images import images
from tombola.world.data.layout import by_split
from tombola.world.data.mnist import mnist, mnist_images
from tombola.world.data.split import Split

TRAIN, TEST = range(20), range(30, 34)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A set of 20 and 4 images in parquet files, with names of classes."""
    write_numbers(tmp_path / "data" / "train-00000-of-00001.parquet", TRAIN, names="abc")
    write_numbers(tmp_path / "data" / "test-00000-of-00001.parquet", TEST, names="abc")
    return tmp_path


def held(count: int, of: int, name: str) -> list[int]:
    """The places that are held out, by the stated permutation."""
    return sorted(torch.randperm(of, generator=stream(0, "images", name))[:count].tolist())


def sizes(splits: dict[str, Split]) -> dict[str, int]:
    return {name: len(split) for name, split in splits.items()}


# -- parquet -------------------------------------------------------------------------------------


def test_rows_become_bytes_in_order(rows: Path) -> None:
    splits = images(rows)
    assert sizes(splits) == {"train": 18, "validation": 2, "test": 4}
    out = held(2, 20, "validation")
    expected = {
        "train": [number for number in TRAIN if number not in out],
        "validation": out,
        "test": list(TEST),
    }
    for name, split in splits.items():
        assert split.inputs.tolist() == [pixels(number) for number in expected[name]]
        assert split.targets.tolist() == [number % 3 for number in expected[name]]
        assert (split.inputs.dtype, split.targets.dtype) == (torch.uint8, torch.int64)
        assert split.classes == ("a", "b", "c")


def test_a_validation_split_that_is_there_is_used(rows: Path) -> None:
    write_numbers(rows / "data" / "validation-00000-of-00001.parquet", [7, 8], names="abc")
    splits = images(rows)
    assert sizes(splits) == {"train": 20, "validation": 2, "test": 4}
    assert numbers_of(splits["validation"].inputs) == [7, 8]


@pytest.mark.parametrize(
    "paths",
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("flowers-train.parquet", "flowers_test.parquet"),
        ("plain_text/training.parquet", "plain_text/eval.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train/x.parquet", "testing/x.parquet"),
        ("test/train.parquet", "train/test.parquet"),  # the file's own name comes first
    ],
)
def test_layouts_of_the_hub(tmp_path: Path, paths: tuple[str, str]) -> None:
    for path, numbers in zip(paths, (TRAIN, TEST), strict=True):
        write_numbers(tmp_path / path, numbers)
    write_numbers(tmp_path / ".cache" / "train.parquet", [99])
    splits = images(tmp_path)
    assert sizes(splits) == {"train": 18, "validation": 2, "test": 4}
    assert numbers_of(splits["test"].inputs) == list(TEST)


def test_several_files_of_a_split_are_read_by_name(tmp_path: Path) -> None:
    write_numbers(tmp_path / "test-0.parquet", [1])
    for part in (2, 0, 1):
        write_numbers(
            tmp_path / f"train-0000{part}-of-00003.parquet", range(10 * part, 10 * part + 10)
        )
    train = images(tmp_path)["train"].inputs
    assert numbers_of(train) == [n for n in range(30) if n not in held(3, 30, "validation")]


def test_files_of_no_known_split_are_left_out_and_named(
    rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_numbers(rows / "data" / "extra-00000-of-00001.parquet", [99], names="abc")
    assert sizes(images(rows)) == {"train": 18, "validation": 2, "test": 4}
    assert "left out, being of no known split: data/extra-00000-of-00001.parquet" in caplog.text


def test_without_names_of_splits_all_is_for_training_and_a_tenth_for_the_test(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_numbers(tmp_path / "b.parquet", range(10, 20))
    write_numbers(tmp_path / "a.parquet", range(10))
    splits = images(tmp_path)
    assert sizes(splits) == {"train": 16, "validation": 2, "test": 2}
    assert numbers_of(splits["test"].inputs) == held(2, 20, "test")
    rest = [number for number in range(20) if number not in held(2, 20, "test")]
    assert numbers_of(splits["validation"].inputs) == [rest[n] for n in held(2, 18, "validation")]
    assert "has no test split: 2 of its 20 images are held out as test" in caplog.text
    again = images(tmp_path)
    assert {n: s.digest for n, s in splits.items()} == {n: s.digest for n, s in again.items()}


def test_two_sets_in_one_folder_are_told_apart() -> None:
    paths = [PurePath(text) for text in ("a/train.parquet", "b/train.parquet", "b/test.parquet")]
    with pytest.raises(WorldError, match=r"here holds several sets: a, b\. Name one, as here/a"):
        by_split(paths, "here")


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("columns", "more"),
    [
        (("img", "fine_label"), {}),
        (("image", "labels"), {"caption": pa.array(["x"] * 10)}),
        (("picture", "label"), {"id": pa.array(range(10))}),
    ],
)
def test_columns_are_found_by_metadata_or_by_shape_and_name(
    tmp_path: Path, columns: tuple[str, str], more: dict[str, pa.Array], told: bool
) -> None:
    path = tmp_path / "train.parquet"
    write_numbers(path, range(10), columns=columns, told=told, names="abc", **more)
    if columns[1] == "fine_label" and not told:
        with pytest.raises(
            WorldError, match=r"which column holds the labels\? There are img \(stru"
        ):
            images(tmp_path)
    label = columns[1] if not told else None
    splits = images(tmp_path, label=label)
    assert splits["train"].targets.tolist() == [n % 3 for n in numbers_of(splits["train"].inputs)]
    assert splits["train"].classes == (("a", "b", "c") if told else ())


def test_of_several_columns_of_labels_one_must_be_named(tmp_path: Path) -> None:
    coarse = pa.array([5] * 10)
    path = tmp_path / "train.parquet"
    write_numbers(path, range(10), columns=("img", "fine"), told=False, coarse=coarse)
    with pytest.raises(WorldError, match=r"holds the labels\? .*coarse \(int64\).*--label COLUMN"):
        images(tmp_path)
    assert images(tmp_path, label="coarse")["train"].targets.unique().tolist() == [5]
    for wrong in ("colour", "img"):
        with pytest.raises(
            WorldError, match=rf"no column '{wrong}' of whole numbers or text; there"
        ):
            images(tmp_path, label=wrong)


def test_labels_in_words_are_numbered_over_all_splits(tmp_path: Path) -> None:
    contents = [png(picture(n)) for n in range(4)]
    words = pa.array(["owl", "bat", "owl", "cat"]).dictionary_encode()
    write_rows(tmp_path / "train.parquet", contents, words.to_pylist(), told=False)
    write_rows(tmp_path / "validation.parquet", contents[:2], ["cat", "cat"], told=False)
    write_rows(tmp_path / "test.parquet", contents[:2], ["owl", "ant"], told=False)
    splits = images(tmp_path)
    assert splits["train"].classes == ("ant", "bat", "cat", "owl")
    assert {n: s.targets.tolist() for n, s in splits.items()} == {
        "train": [3, 1, 3, 2],
        "validation": [2, 2],
        "test": [3, 0],
    }


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, 3], "abc", r"\(train\): image 2 has label 3; want 0 to 2\."),
        ([0, -2, 1], None, r"\(train\): image 1 has label -2; want 0 or more\.$"),
        ([-1, -1, -1], "abc", r"image 0 has label -1; .*kept secret, use the set without train"),
        ([0, None, 1], "abc", r"\(train\): image 1 has no label"),
        (["x", None, "y"], None, r"\(train\): image 1 has no label"),
        ([0.5, 1.0, 2.0], None, r"no column|which column holds the labels\?.*label \(double\)"),
    ],
)
def test_labels_that_are_missing_or_out_of_range(
    tmp_path: Path, labels: list[Any], names: str | None, message: str
) -> None:
    contents = [png(picture(n)) for n in range(3)]
    write_rows(tmp_path / "train.parquet", contents, labels, names=names)
    with pytest.raises(WorldError, match=message):
        images(tmp_path)


def test_files_that_disagree_about_the_classes(rows: Path) -> None:
    write_numbers(rows / "data" / "test-00000-of-00001.parquet", TEST, names="abd")
    with pytest.raises(WorldError, match=r"has other columns or classes than .*'d'.*not .*'c'"):
        images(rows)


@pytest.mark.parametrize("keep", [0, 4, 60, -9, -1])
def test_parquet_files_cut_short_are_named(rows: Path, keep: int) -> None:
    path = rows / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WorldError, match=rf"{path} cannot be read as parquet .*Fetch it again"):
        images(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", r"row 2 \(2\.png\): not an image .* \(Pillow knows no such format\)"),
        (png(picture(1))[:-30], r"row 2 \(2\.png\): not an image that can be read \("),
        (png(picture(1, 64, 64), "JPEG")[:-200], r"row 2 .*truncated"),
        (b"", r"row 2 has no bytes in 'image'"),
        (None, r"row 2 has no bytes in 'image'. Want the image files themselves"),
        (png(Image.new("I;16", (3, 2))), r"row 2 .*more than 8 bits a channel"),
    ],
)
def test_images_that_cannot_be_read_are_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    contents = [png(picture(0)), png(picture(1)), content, png(picture(3))]
    write_rows(tmp_path / "train.parquet", contents, [0, 1, 0, 1])
    write_numbers(tmp_path / "test.parquet", [1])
    write_numbers(tmp_path / "validation.parquet", [1])
    with pytest.raises(WorldError, match=rf"train\.parquet:? {message}"):
        images(tmp_path)


def test_tables_without_images_and_without_rows(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(WorldError, match=r"holds the images\? .* there are text \(string\), label"):
        images(tmp_path)
    write_numbers(tmp_path / "train.parquet", [])
    with pytest.raises(WorldError, match=r"which column holds the labels|\(train\): no images"):
        images(tmp_path)


def test_a_set_that_has_nothing_to_train_on_or_too_little(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a" / "test.parquet", [1])
    with pytest.raises(WorldError, match=r"a has test, but no train; want images to train on"):
        images(tmp_path / "a")
    write_numbers(tmp_path / "b" / "train.parquet", [1])
    with pytest.raises(WorldError, match=r"b: 1 images are too few to hold a test split out"):
        images(tmp_path / "b")


# -- pixels --------------------------------------------------------------------------------------


def decoded(tmp_path: Path, *contents: bytes) -> torch.Tensor:
    """These images, read as the test split of a set."""
    write_rows(tmp_path / "test.parquet", contents, [0] * len(contents))
    for name in ("train", "validation"):
        write_rows(tmp_path / f"{name}.parquet", contents, [0] * len(contents))
    tensor: torch.Tensor = images(tmp_path)["test"].inputs
    return tensor


def test_grey_stays_grey_until_a_colour_comes(tmp_path: Path) -> None:
    grey = [png(picture(n, mode="L")) for n in (1, 2)]
    assert decoded(tmp_path, *grey).tolist() == [pixels(1, channels=1), pixels(2, channels=1)]
    first, second, third = (pixels(n, channels=1) * 3 for n in (1, 2, 1))
    mixed = decoded(tmp_path, *grey, png(picture(3)), grey[0])
    assert mixed.tolist() == [first, second, pixels(3), third]


def test_splits_have_as_many_channels_as_one_another(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": range(10), "b": range(10)}, mode="L")
    write_folder(tmp_path / "test", {"a": [1]})
    splits = images(tmp_path)
    assert {split.inputs.shape[1] for split in splits.values()} == {3}
    image = splits["train"].inputs[0]
    assert image[0].equal(image[1]) and image[0].equal(image[2])


def test_all_kinds_of_images_become_grey_or_coloured(tmp_path: Path) -> None:
    red = Image.new("RGB", (2, 1), (204, 0, 0))
    palette = red.convert("P")
    clear = red.convert("P")
    clear.info["transparency"] = bytes([0, 128, 200])
    forms = [red, palette, clear, red.convert("RGBA"), red.convert("CMYK")]
    contents = [png(image, "TIFF" if image.mode == "CMYK" else "PNG") for image in forms]
    shown = decoded(tmp_path, *contents)
    assert shown.shape == (5, 3, 1, 2)
    assert all(image.equal(shown[0]) for image in shown)
    grey = Image.new("L", (2, 1), 255)
    forms = [grey, grey.convert("1"), grey.convert("LA")]
    assert decoded(tmp_path, *map(png, forms)).tolist() == [[[[255, 255]]]] * 3


def test_a_camera_held_sideways(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    shown = decoded(tmp_path, png(picture(1), exif=exif))
    assert shown[0].tolist() == torch.tensor(pixels(1)).rot90(-1, (1, 2)).tolist()


def test_images_of_different_sizes_are_named_with_what_to_do(tmp_path: Path) -> None:
    contents = [png(picture(n)) for n in range(9)] + [png(picture(1, width=2))]
    write_rows(tmp_path / "train.parquet", contents, [0] * 10)
    for name in ("test", "validation"):
        write_numbers(tmp_path / f"{name}.parquet", [1])
    wanted = r"sizes: .* row 0 .* has 3 x 2 pixels, .* row 9 .* has 2 x 2\. .*import PATH --size N"
    with pytest.raises(WorldError, match=wanted):
        images(tmp_path)
    write_rows(tmp_path / "train.parquet", contents[-1:] * 4, [0] * 4)
    with pytest.raises(WorldError, match=r"sizes: train has 2 x 2 pixels, validation has 3 x 2\."):
        images(tmp_path)


def test_images_that_do_not_fit_into_memory(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 18 * 18 - 1}
    monkeypatch.setattr(encoded.os, "sysconf", there.__getitem__)
    with pytest.raises(WorldError, match=r"would take 0\.0 GB in memory.*import PATH --size N"):
        images(rows)
    there["SC_PHYS_PAGES"] += 1
    images(rows)


# -- folders of classes --------------------------------------------------------------------------


def test_folders_of_classes_in_folders_of_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "Train", {"owl": range(10), "bat": range(10, 20)})
    write_folder(tmp_path / "val", {"owl": [21, 22]})
    write_folder(tmp_path / "test" / "owl", {"by night": [30]})  # deeper inside a class
    write_folder(tmp_path / "test", {"bat": [], ".thumbs": [99]})
    (tmp_path / "test" / "owl" / "notes.txt").touch()
    splits = images(tmp_path)
    assert {name: numbers_of(split.inputs) for name, split in splits.items()} == {
        "train": [*range(10, 20), *range(10)],
        "validation": [21, 22],
        "test": [30],
    }
    assert splits["train"].targets.tolist() == [0] * 10 + [1] * 10
    assert (splits["test"].targets.tolist(), splits["test"].classes) == ([1], ("bat", "owl"))


@pytest.mark.parametrize("inside", ["", "photos", "a/photos"])
def test_folders_of_classes_alone(
    tmp_path: Path, inside: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path / inside, {"owl": range(10), "bat": range(10, 20)})
    (tmp_path / "__MACOSX").mkdir()
    splits = images(tmp_path)
    assert sizes(splits) == {"train": 16, "validation": 2, "test": 2}
    assert "2 of its 20 images are held out as test" in caplog.text
    everything = torch.cat([split.inputs for split in splits.values()])
    assert sorted(numbers_of(everything)) == list(range(20))
    for split in splits.values():
        assert [int(n < 10) for n in numbers_of(split.inputs)] == split.targets.tolist()


def loose(root: Path) -> None:
    write_folder(root, {"a": [1], "b": [2]})
    picture(1).save(root / "one.png")


def beside_one_class(root: Path) -> None:
    write_folder(root, {"a": [1]})
    picture(1).save(root / "one.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (beside_one_class, r"/one\.png has no class"),
        (loose, r"one\.png has no class\. Put every image .* as .*/cat/one\.png"),
        (
            lambda root: write_folder(root, {"a": [1], "b": []}),
            r"/b: no images to train on\. .*\.p",
        ),
        (lambda root: write_folder(root, {"test/a": [1]}), r"has test, but no train"),
        (
            lambda root: write_folder(root, {"train/a": [1], "train/b": [2], "test/c": [3]}),
            r"/test/c: there is no such class in .*/train, but a, b",
        ),
        (
            lambda root: write_folder(root, {"train/a": [1], "test/a": []}),
            r"/test: no images; want folders of them",
        ),
        (
            lambda root: write_folder(root, {"val/a": [1], "valid/a": [2], "train/a": [3]}),
            r"/valid and .*/val are both validation",
        ),
        (lambda root: (root / "empty").mkdir(), r"has no images: neither parquet files, nor image"),
    ],
)
def test_folders_that_are_no_set(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path)
    with pytest.raises(WorldError, match=message):
        images(tmp_path)


def test_folders_of_no_known_split_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train", "test", "unsorted"):
        write_folder(tmp_path / name, {"a": range(4), "b": range(4)})
    (tmp_path / "docs").mkdir()
    assert len(images(tmp_path)["test"]) == 8
    assert caplog.messages == [f"{tmp_path}: left out, being of no known split: unsorted"]


def test_a_damaged_image_of_a_folder_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": range(10), "b": range(10)})
    (tmp_path / "b" / "007.png").write_bytes(b"GIF89a")
    with pytest.raises(WorldError, match=rf"{tmp_path}: b/007\.png: not an image that can be read"):
        images(tmp_path)


# -- names ---------------------------------------------------------------------------------------


def test_a_set_is_named_or_shown_the_way_to(
    rows: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path_factory.mktemp("data")
    write_folder(data / "org--birds", {"a": range(10), "b": range(10, 20)})
    write_folder(data / "flowers", {"a": range(20, 30), "b": range(30, 40)})
    birds = images("org/birds", data)
    assert birds["train"].digest == images(data / "org--birds")["train"].digest
    monkeypatch.setenv("TOMBOLA_DATA", str(data))
    assert images("org/birds")["train"].digest == birds["train"].digest
    monkeypatch.chdir(rows.parent)
    assert len(images(f"./{rows.name}")["test"]) == 4
    write_folder(rows.parent / "flowers", {"a": range(3), "b": range(2)})
    assert len(images("flowers")["train"]) == 16  # the named set comes before the path
    assert len(images("./flowers")["train"]) == len(images(Path("flowers"))["train"]) == 3


def test_no_such_set(tmp_path: Path) -> None:
    (tmp_path / "org--birds").mkdir()
    (tmp_path / "flowers").mkdir()
    with pytest.raises(
        WorldError, match=r"'flower', .*Did you mean flowers\? .* has flowers, org/b"
    ):
        images("flower", tmp_path)
    with pytest.raises(WorldError, match=r"'x', .* path\. .*/none has none\. `tombola data fetch`"):
        images("x", tmp_path / "none")
    (tmp_path / "x.zip").touch()
    with pytest.raises(
        WorldError, match=r"is a file\. Unpack it with `tombola data import .*x\.zip"
    ):
        images(tmp_path / "x.zip")


# -- MNIST ---------------------------------------------------------------------------------------


def idx(array: torch.Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.dim()]) + sizes + array.to(torch.uint8).numpy().tobytes()


DIGITS = torch.randint(256, (30, 28, 28), generator=torch.Generator().manual_seed(0))


def write_idx(folder: Path, labels: torch.Tensor) -> None:
    folder.mkdir(parents=True)
    for stem, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        images_file = folder / f"{stem}-images-idx3-ubyte.gz"
        images_file.write_bytes(gzip.compress(idx(DIGITS[part])))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels[part]))


def write_digits(folder: Path, labels: torch.Tensor) -> None:
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        contents = [png(Image.fromarray(d.numpy().astype(np.uint8))) for d in DIGITS[part]]
        path = folder / "mnist" / f"{name}-00000-of-00001.parquet"
        write_rows(path, contents, labels[part].tolist(), names="0123456789")


def test_mnist_is_the_same_from_either_kind_of_file(tmp_path: Path) -> None:
    labels = torch.arange(30) % 10
    write_idx(tmp_path / "a" / "mnist", labels)
    write_digits(tmp_path / "b" / "mnist", labels)
    one, other = (mnist(tmp_path / name, validation=5) for name in "ab")
    assert sizes(one) == {"train": 15, "validation": 5, "test": 10}
    assert {n: s.digest for n, s in one.items()} == {n: s.digest for n, s in other.items()}
    assert one["test"].inputs.tolist() == DIGITS[20:].flatten(1).tolist()
    assert one["test"].classes == tuple("0123456789")
    shown = mnist_images(tmp_path / "a", validation=5)
    assert {n: s.inputs[:, 0].flatten(1).tolist() for n, s in shown.items()} == {
        n: s.inputs.tolist() for n, s in one.items()
    }


def test_the_name_mnist_means_those_digits_as_images(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist", torch.arange(30) % 10)
    with pytest.raises(WorldError, match=r"cannot hold 5000 of 20 examples out"):
        images("mnist", tmp_path)
    splits = images(tmp_path / "mnist")  # by its path, it is any set published like it
    assert sizes(splits) == {"train": 18, "validation": 2, "test": 10}
    assert splits["test"].inputs.shape == (10, 1, 28, 28)


def test_labels_of_mnist_over_nine(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist", torch.arange(30))
    with pytest.raises(WorldError, match=r"image 10 of train has label 10; want 0 to 9"):
        mnist(tmp_path, validation=5)
    assert images(tmp_path / "mnist")["test"].targets.tolist() == list(range(20, 30))


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        ("RGB", (28, 28), r"\(test\): images of shape \(3, 28, 28\).*; MNIST has \(1, 28, 28\)"),
        ("L", (27, 28), r"\(test\): images of shape \(1, 28, 27\)"),
    ],
)
def test_another_set_is_not_mnist(
    tmp_path: Path, mode: str, size: tuple[int, int], message: str
) -> None:
    write_digits(tmp_path / "mnist", torch.arange(30) % 10)
    contents = [png(Image.new(mode, size))]
    write_rows(
        tmp_path / "mnist" / "mnist" / "test-00000-of-00001.parquet",
        contents,
        [0],
        names="0123456789",
    )
    with pytest.raises(WorldError, match=message):
        mnist(tmp_path, validation=5)


# -- CIFAR-10 ------------------------------------------------------------------------------------


def record(label: int, number: int) -> bytes:
    """A label, then 1,024 bytes for each of red, green and blue; written out by hand."""
    red = bytes([number]) * 1024
    green = bytes(range(32)) * 32  # each row counts its columns
    blue = b"".join(bytes([row]) * 32 for row in range(32))
    return bytes([label]) + red + green + blue


def batches() -> dict[str, bytes]:
    """Two images in each file: of label n and n + 1 in the n-th."""
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    return {name: record(n, 10 * n) + record(n + 1, 10 * n + 1) for n, name in enumerate(names)}


def pack(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("how", ["unpacked", "loose", "packed"])
def test_binary_batches(tmp_path: Path, how: str) -> None:
    root = tmp_path / "cifar10"
    if how == "packed":
        pack(root / "cifar-10-binary.tar.gz", {"readme.html": b"", **batches()})
    else:
        folder = root / "cifar-10-batches-bin" if how == "unpacked" else root
        folder.mkdir(parents=True)
        for name, content in batches().items():
            (folder / name).write_bytes(content)
    splits = cifar10(tmp_path, validation=4)
    order = torch.randperm(10, generator=stream(0, "cifar10", "split")).tolist()
    everything = [10 * n + k for n in range(5) for k in range(2)]
    assert {name: numbers_of(split.inputs) for name, split in splits.items()} == {
        "train": [everything[place] for place in order[4:]],
        "validation": [everything[place] for place in order[:4]],
        "test": [50, 51],
    }
    for split in splits.values():
        assert (split.inputs.shape[1:], split.inputs.dtype) == ((3, 32, 32), torch.uint8)
        for image, label in zip(split.inputs, split.targets.tolist(), strict=True):
            number = int(image[0, 0, 0])
            assert label == number // 10 + number % 10
            assert image[0].unique().tolist() == [number]
            assert image[1].tolist() == [list(range(32))] * 32
            assert image[2].tolist() == [[row] * 32 for row in range(32)]
        assert split.classes == CLASSES


def test_lossless_parquet_is_the_same_as_the_batches(tmp_path: Path) -> None:
    for name, parts in (("train", range(1, 6)), ("test", ["test"])):
        contents, labels = [], []
        for part in parts:
            raw = batches()[f"data_batch_{part}.bin" if name == "train" else "test_batch.bin"]
            for start in (0, 3073):
                image = np.frombuffer(raw[start + 1 : start + 3073], np.uint8).reshape(3, 32, 32)
                contents.append(png(Image.fromarray(image.transpose(1, 2, 0))))
                labels.append(raw[start])
        path = tmp_path / "a" / "cifar10" / "plain_text" / f"{name}-00000-of-00001.parquet"
        write_rows(path, contents, labels, names=CLASSES, columns=("img", "label"))
    pack(tmp_path / "b" / "cifar10" / "cifar-10-binary.tar.gz", batches())
    one, other = (cifar10(tmp_path / name, validation=4) for name in "ab")
    assert {n: s.digest for n, s in one.items()} == {n: s.digest for n, s in other.items()}
    assert one["train"].classes == CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data_batch_3.bin": record(1, 1)[:-1]},
            r"data_batch_3\.bin has 3072 bytes, no whole num",
        ),
        ({"test_batch.bin": b""}, r"test_batch\.bin has 0 bytes"),
        ({"data_batch_2.bin": record(1, 1) + record(10, 1)}, r"image 1 has label 10; want 0 to 9"),
        ({"data_batch_5.bin": None}, r"data_batch_5\.bin"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_batches_are_named(
    tmp_path: Path, changes: dict[str, bytes | None], message: str, packed: bool
) -> None:
    files = {n: content for n, content in {**batches(), **changes}.items() if content is not None}
    root = tmp_path / "cifar10"
    if packed:
        pack(root / "cifar-10-binary.tar.gz", files)
    else:
        root.mkdir()
        for name, content in files.items():
            (root / name).write_bytes(content)
    with pytest.raises(WorldError, match=message):
        cifar10(tmp_path, validation=4)


def test_an_archive_cut_short_or_foreign(tmp_path: Path) -> None:
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    pack(path, batches())
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-9], b"hello", b""):
        path.write_bytes(content)
        with pytest.raises(WorldError, match=rf"{path} cannot be read .*Fetch it again"):
            cifar10(tmp_path, validation=4)


def test_no_cifar10(tmp_path: Path) -> None:
    wanted = rf"CIFAR-10 not found; looked in {tmp_path}/cifar10 .*`tombola data fetch cifar10`"
    with pytest.raises(WorldError, match=wanted):
        cifar10(tmp_path)
    with pytest.raises(WorldError, match=r"MNIST not found; .*`tombola data fetch mnist`"):
        mnist(tmp_path)


def test_another_set_is_not_cifar10(tmp_path: Path) -> None:
    write_numbers(tmp_path / "cifar10" / "train.parquet", range(4))
    with pytest.raises(WorldError, match=r"are of train; CIFAR-10 has train and test"):
        cifar10(tmp_path)
    write_numbers(tmp_path / "cifar10" / "test.parquet", range(4))
    with pytest.raises(WorldError, match=r"images of shape \(3, 2, 3\) and labels up to 2; CIFAR"):
        cifar10(tmp_path)


def test_the_real_cifar10(cifar_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    splits = cifar10(cifar_data)
    assert sizes(splits) == {"train": 45_000, "validation": 5_000, "test": 10_000}
    for split in splits.values():
        assert (split.inputs.shape[1:], split.inputs.dtype) == ((3, 32, 32), torch.uint8)
        assert (split.targets.dtype, split.classes) == (torch.int64, CLASSES)
    labels = torch.cat([splits["train"].targets, splits["validation"].targets])
    assert labels.bincount().tolist() == [5_000] * 10
    assert splits["test"].targets.bincount().tolist() == [1_000] * 10
    both = torch.cat([splits["train"].inputs, splits["validation"].inputs]).float() / 255
    assert both.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-3)
    assert both.std((0, 2, 3)).tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=3e-3)
    assert caplog.records == []
