"""Images of the user's own, written as a set: the same pixels, or nothing at all."""

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import picture, write_folder, write_numbers
from PIL import Image

from tombola.errors import CallError, WorldError
from tombola.world.data import importing
from tombola.world.data.images import images
from tombola.world.data.importing import import_images, new_set
from tombola.world.data.split import Split

FILES = [f"{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """20 images of two classes."""
    return write_folder(tmp_path / "photos", {"owl": range(10), "bat": range(10, 20)})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty folder of data sets."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def digests(splits: dict[str, Split]) -> dict[str, str]:
    return {name: split.digest for name, split in splits.items()}


def test_an_imported_set_reads_as_what_it_was_made_of(photos: Path, data: Path) -> None:
    folder = import_images(photos, data=data)
    assert (folder, sorted(path.name for path in folder.iterdir())) == (data / "photos", FILES)
    assert [path.name for path in data.iterdir()] == ["photos"]
    straight, imported = images(photos), images("photos", data)
    assert digests(imported) == digests(straight)
    assert imported["train"].classes == ("bat", "owl")
    assert {name: len(split) for name, split in imported.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }


def test_parquet_files_are_imported_with_their_splits_and_classes(
    tmp_path: Path, data: Path
) -> None:
    source = tmp_path / "source"
    write_numbers(source / "x" / "train.parquet", range(12), names="abc", columns=("img", "fine"))
    write_numbers(source / "x" / "test.parquet", range(3), names="abc", columns=("img", "fine"))
    import_images(source, "letters", data)
    imported = images("letters", data)
    assert digests(imported) == digests(images(source))
    assert imported["test"].classes == ("a", "b", "c")
    write_numbers(tmp_path / "plain" / "train.parquet", range(12), names=None, told=False)
    import_images(tmp_path / "plain", "numbers", data)
    assert images("numbers", data)["train"].classes == ()
    assert digests(images("numbers", data)) == digests(images(tmp_path / "plain"))


def test_what_is_written_is_what_datasets_reads(
    photos: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    folder = import_images(photos, data=data)
    read = datasets.load_dataset(str(folder), cache_dir=str(data / "cache"))
    imported = images(folder)
    assert set(read) == set(imported)
    for name, table in read.items():
        assert table.features["label"].names == ["bat", "owl"]
        assert table["label"][:] == imported[name].targets.tolist()
        for row, image in zip(table, imported[name].inputs, strict=True):
            assert np.asarray(row["image"]).transpose(2, 0, 1).tolist() == image.tolist()


def test_rows_hold_png_of_the_pixels_alone_and_where_they_are_from(
    tmp_path: Path, data: Path
) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera with a serial number"
    for number in range(20):
        place = tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(place, exif=exif, quality=50)
    folder = import_images(tmp_path / "photos", data=data)
    rows = [row for file in FILES for row in pq.read_table(folder / file).to_pylist()]
    assert sorted(row["image"]["path"] for row in rows)[:2] == ["a/00.jpg", "a/02.jpg"]
    for row in rows:
        assert row["image"]["bytes"].startswith(b"\x89PNG")
        assert b"camera" not in row["image"]["bytes"]
    metadata = pq.read_schema(folder / FILES[0]).metadata[b"huggingface"]
    assert json.loads(metadata)["info"]["features"] == {
        "image": {"_type": "Image"},
        "label": {"names": ["a", "b"], "_type": "ClassLabel"},
    }


def test_images_are_cut_to_the_middle_square_and_resized(tmp_path: Path, data: Path) -> None:
    shape = {"a": (8, 4), "b": (4, 4), "c": (4, 10)}  # width and height
    for name, (width, height) in shape.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        x, y = (width - 4) // 2, (height - 4) // 2
        for number in range(4):
            image = Image.new("RGB", (width, height), (255, 0, 0))
            image.paste((0, 10 * number, 200), (x, y, x + 4, y + 4))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    with pytest.raises(
        WorldError, match=r"different sizes: .* a/.*8 x 4 pixels.*import PATH --size N"
    ):
        import_images(tmp_path / "photos", data=data)
    import_images(tmp_path / "photos", data=data, size=2)
    for split in images("photos", data).values():
        assert split.inputs.shape[1:] == (3, 2, 2)
        assert bool((split.inputs[:, 0] == 0).all()) and bool((split.inputs[:, 2] == 200).all())


def test_sizes_are_compared_over_all_splits(tmp_path: Path, data: Path) -> None:
    write_folder(tmp_path / "photos" / "train", {"a": range(10), "b": range(10)})
    write_folder(tmp_path / "photos" / "test", {"a": [1]}, width=5)
    with pytest.raises(
        WorldError, match=r"sizes: .*train: a/.* 3 x 2 pixels, .*test: a/001\.png has 5"
    ):
        import_images(tmp_path / "photos", data=data)
    assert list(data.iterdir()) == []


def test_progress_is_told(photos: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "ROWS_AT_ONCE", 6)
    told: list[tuple[str, int, int]] = []
    import_images(photos, data=data, tell=lambda *what: told.append(what))
    assert told == [
        ("train", 6, 16),
        ("train", 12, 16),
        ("train", 16, 16),
        ("validation", 2, 2),
        ("test", 2, 2),
    ]
    assert [pq.ParquetFile(data / "photos" / FILES[1]).num_row_groups] == [3]


# -- archives ------------------------------------------------------------------------------------


def members(root: Path) -> Iterable[tuple[str, bytes]]:
    for path in sorted(root.rglob("*.png")):
        yield str(path.relative_to(root.parent)), path.read_bytes()


def zipped(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_archives_are_unpacked(photos: Path, data: Path, tmp_path: Path, ending: str) -> None:
    pack = zipped if ending == "zip" else tarred
    notes = [("photos/notes.txt", b"not an image"), ("__MACOSX/photos/owl/._000.png", b"x")]
    path = pack(tmp_path / f"birds.{ending}", [*members(photos), *notes])
    folder = import_images(path, data=data)
    assert (folder, [inside.name for inside in data.iterdir()]) == (data / "birds", ["birds"])
    assert sorted(inside.name for inside in folder.iterdir()) == FILES
    assert digests(images("birds", data)) == digests(images(photos))


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    "name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "..\\evil.png"]
)
def test_archives_that_reach_outside_are_not_unpacked(
    photos: Path, data: Path, tmp_path: Path, pack: Callable[..., Path], name: str
) -> None:
    path = pack(
        tmp_path / ("x.zip" if pack is zipped else "x.tar"), [*members(photos), (name, b"")]
    )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WorldError, match=r"wants to write outside of its folder .*not unpacked"):
        import_images(path, data=data)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_archives_with_links_are_not_unpacked(tmp_path: Path, data: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(WorldError, match=r"a/link\.png is a link, which may point anywhere"):
        import_images(tmp_path / "x.tar", data=data)
    assert list(data.iterdir()) == []


def damaged(whole: bytes) -> list[bytes]:
    """Cut short, empty, foreign, and with a bit turned in the first image, or where it is packed
    in the middle."""
    turned = bytearray(whole)
    turned[whole.find(b"IDAT") + 9 if b"IDAT" in whole else len(whole) // 2] ^= 0x10
    cut = [whole[:-10], whole[: len(whole) // 2], whole[:100], b""]
    return [*cut, b"not an archive", bytes(turned)]


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.xz"])
def test_archives_cut_short_or_damaged_leave_nothing(
    photos: Path, data: Path, tmp_path: Path, ending: str
) -> None:
    pack = zipped if ending == "zip" else tarred
    path = pack(tmp_path / f"x.{ending}", members(photos))
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(WorldError, match=rf"{path}"):
            import_images(path, data=data)
        assert list(data.iterdir()) == []


def test_a_plain_archive_cut_short(photos: Path, data: Path, tmp_path: Path) -> None:
    path = tarred(tmp_path / "x.tar", members(photos))
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(WorldError, match=r"x\.tar cannot be unpacked \(unexpected end of data\)"):
        import_images(path, data=data)
    assert list(data.iterdir()) == []


def test_an_image_of_an_archive_is_named_by_its_place_in_it(
    photos: Path, data: Path, tmp_path: Path
) -> None:
    (photos / "owl" / "003.png").write_bytes(b"no")
    path = zipped(tmp_path / "x.zip", members(photos))
    with pytest.raises(WorldError, match=rf"^{path}/photos: owl/003\.png: not an image"):
        import_images(path, data=data)


# -- wrong calls, and what goes wrong on the way -------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", ".x", "a--b", "a b", "-x", "ä"])
def test_names_that_cannot_be_one(photos: Path, data: Path, name: str) -> None:
    with pytest.raises(CallError, match=r"cannot name a set: want letters, .*with --as"):
        import_images(photos, name, data)
    assert list(data.iterdir()) == []


def test_a_name_that_is_taken(photos: Path, data: Path) -> None:
    (data / "photos").mkdir()
    with pytest.raises(CallError, match=r"data/photos is there already\. Remove .* with --as"):
        import_images(photos, data=data)
    assert [path.name for path in data.iterdir()] == ["photos"]
    assert import_images(photos, "more", data) == data / "more"


def test_other_wrong_calls(photos: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"--size 0: want a number of pixels"):
        import_images(photos, data=data, size=0)
    with pytest.raises(WorldError, match=r"/nowhere: there is no such folder or file"):
        import_images(tmp_path / "nowhere", data=data)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorldError, match=r"/empty has no images: neither parquet files, nor image"):
        import_images(tmp_path / "empty", data=data)
    (tmp_path / "file").touch()
    with pytest.raises(WorldError, match=r"data/x cannot be written \("):
        import_images(photos, "x", tmp_path / "file" / "data")
    assert list(data.iterdir()) == []


def test_nothing_is_left_of_a_set_that_was_broken_off(photos: Path, data: Path) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_images(photos, data=data, tell=stop)
    assert list(data.iterdir()) == []


def test_of_two_at_once_the_first_stays(photos: Path, data: Path) -> None:
    with pytest.raises(WorldError, match=r"cannot be written"), new_set(data / "photos") as late:
        (late / "x").touch()
        import_images(photos, data=data)
    assert sorted(path.name for path in data.iterdir()) == ["photos"]
    assert len(images("photos", data)["test"]) == 2


def test_others_may_read_a_set(photos: Path, data: Path) -> None:
    folder = import_images(photos, data=data)
    (data / "plain").mkdir()
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((data / "plain").stat().st_mode)
