"""The store: what goes in comes out, and what is damaged is found."""

import json
import os
from pathlib import Path

import pytest
import torch
from toy import small_world

from tombola.errors import DamagedObjectError, StoreError, StoreFullError
from tombola.lab.encoding import decode_leg, encode_leg
from tombola.lab.store import Store
from tombola.recipes.job import NoDesk, job_key
from tombola.recipes.jobs import Init, Train, Trained
from tombola.train.leg import Leg, Reading
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


PARAMS = Params({"a": torch.tensor([1.0, -0.0]), "n": torch.tensor(3), "e": torch.zeros(0, 4)})
MASK = Mask({"w": torch.tensor([[True, False, True], [False, False, True]])})


@pytest.mark.parametrize("value", [PARAMS, MASK, FULL, Params({})])
def test_values_come_back_bit_for_bit(store: Store, value: Params | Mask) -> None:
    name = store.put(value)
    assert name == value.digest
    assert store.fetch(type(value), name).digest == value.digest


def test_equal_content_is_stored_once(store: Store) -> None:
    store.put(PARAMS)
    before = {p: p.stat().st_ino for p in store.folder.rglob("*.safetensors")}
    store.put(Params(dict(PARAMS)))
    assert {p: p.stat().st_ino for p in store.folder.rglob("*.safetensors")} == before


def test_a_mask_takes_one_bit_a_weight(store: Store) -> None:
    mask = Mask({"w": torch.rand(300, 100) < 0.5})
    name = store.put(mask)
    assert store._object_path(name).stat().st_size < 300 * 100 / 8 + 300


@pytest.mark.parametrize("place", [0, 9, 60, -1])
def test_any_flipped_bit_is_found_and_set_aside(store: Store, place: int) -> None:
    name = store.put(Params({"w": torch.arange(20.0)}))
    path = store._object_path(name)
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedObjectError, match=name):
        store.fetch(Params, name)
    assert not store.has(name)
    assert len(list((store.folder / "damaged").iterdir())) == 1


@pytest.mark.parametrize("length", [0, 5, 40, 90])
def test_a_torn_object_is_found(store: Store, length: int) -> None:
    name = store.put(Params({"w": torch.arange(20.0)}))
    path = store._object_path(name)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedObjectError, match="set aside"):
        store.fetch(Params, name)


def _trained() -> tuple[str, Train, Trained]:
    world = small_world()
    start = Init(world=world, seed=0).run(NoDesk())
    job = Train(
        world=world,
        seed=0,
        begin=Point(start.params, None, 0),
        mask=FULL,
        until=world.steps,
        objective=world.objective,
    )
    return job_key(job), job, job.run(NoDesk())


def test_a_call_is_recalled_with_handles(store: Store) -> None:
    key, job, result = _trained()
    assert store.recall(key, Trained) is None
    store.record(key, job.kind, result, {"seconds": 1.0})
    again = store.recall(key, Trained)
    assert again.metrics == result.metrics
    assert again.readings == result.readings
    assert again.params.digest == result.params.digest
    assert again.params.load().digest == result.params.digest
    assert store.context(key) == {"seconds": 1.0}


def test_a_damaged_or_partial_record_counts_as_not_done(store: Store) -> None:
    key, job, result = _trained()
    store.record(key, job.kind, result, {})
    path = store._call_path(key)
    content = json.loads(path.read_text())
    content["result"]["metrics"]["test_accuracy"] = 1.0
    path.write_text(json.dumps(content))
    assert store.recall(key, Trained) is None
    assert not path.exists()

    store.record(key, job.kind, result, {})
    store._object_path(result.params.digest).unlink()
    assert store.recall(key, Trained) is None


def test_a_leg_comes_back_bit_for_bit_and_its_damage_is_found() -> None:
    leg = Leg(
        step=7,
        coords=PARAMS,
        slots=Params({"m/a": torch.ones(2)}),
        mask=MASK,
        readings=(Reading(step=5, metrics={"loss": 0.1 + 0.2}),),
        best=PARAMS,
        best_mask=MASK,
        best_step=5,
        exposure=1 << 127,
        checks={"rewind_exact": True, "x": None},
    )
    raw = encode_leg(leg)
    again = decode_leg(raw)
    assert (again.coords.digest, again.slots.digest, again.mask.digest, again.best_mask.digest) == (
        PARAMS.digest,
        leg.slots.digest,
        MASK.digest,
        MASK.digest,
    )
    assert (again.readings, again.exposure, again.checks, again.best_step) == (
        leg.readings,
        leg.exposure,
        leg.checks,
        5,
    )
    changed = bytearray(raw)
    changed[-1] ^= 1
    with pytest.raises(ValueError, match="digest"):
        decode_leg(bytes(changed))


def test_resume_takes_the_furthest_whole_leg_not_past_the_end(store: Store) -> None:
    def leg(step: int) -> Leg:
        return Leg(step=step, coords=PARAMS, slots=Params({}))

    store.keep("t", leg(5), pinned=True)
    store.keep("t", leg(10), pinned=False)
    store.keep("t", leg(20), pinned=False)
    assert [step for step, _ in sorted(store._legs("t"))] == [5, 20]  # 10 was not pinned
    assert store.resume("t", 30).step == 20
    assert store.resume("t", 19).step == 5
    next(p for s, p in store._legs("t") if s == 20).write_bytes(b"torn")
    assert store.resume("t", 30).step == 5
    store.keep("t", leg(25), pinned=False)
    store.finished("t", 24)
    assert sorted(step for step, _ in store._legs("t")) == [5, 25]
    store.finished("t", 25)
    assert [step for step, _ in store._legs("t")] == [5]


def _foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")


def _newer(folder: Path) -> None:
    folder.mkdir()
    (folder / "format.json").write_text('{"format": "tombola-store", "schema": 99}')


def _cut_short(folder: Path) -> None:
    folder.mkdir()
    (folder / "format.json").write_text('{"format": "tom')


def _of_another_program(folder: Path) -> None:
    folder.mkdir()
    (folder / "format.json").write_text('{"format": "bibliography", "schema": 1}')


def _a_file(folder: Path) -> None:
    folder.write_text("not a folder")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_foreign, "not a tombola store"),
        (_newer, "Update"),
        (_cut_short, "damaged"),
        (_of_another_program, "bibliography"),
        (_a_file, "not a tombola store"),
    ],
)
def test_what_is_not_our_store_is_refused_and_left_alone(tmp_path, make, says) -> None:
    folder = tmp_path / "place"
    make(folder)
    before = sorted((p, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file())
    with pytest.raises(StoreError, match=says):
        Store(folder)
    assert sorted((p, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()) == before


def test_a_store_that_cannot_be_written_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "store")


def test_a_full_disk_is_an_error_of_the_work_and_leaves_no_half_file(store, monkeypatch) -> None:
    def full(self: Path, content: bytes) -> int:
        with open(self, "wb") as half:
            half.write(content[:3])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreFullError, match="disk is full") as caught:
        store.put(PARAMS)
    assert caught.value.exit_status == 1
    assert not list((store.folder / "objects").rglob("*.*"))


def test_an_object_torn_by_a_crash_is_written_anew(store: Store) -> None:
    store._object_path(PARAMS.digest).parent.mkdir(parents=True)
    store._object_path(PARAMS.digest).write_bytes(b"")
    store.put(PARAMS)
    assert store.fetch(Params, PARAMS.digest).digest == PARAMS.digest


def test_a_store_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".format.json.77.abcd").write_text("{")
    store = Store(tmp_path / "s")
    assert store.fetch(Params, store.put(PARAMS)).digest == PARAMS.digest


def test_half_written_files_of_processes_that_are_no_more_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digest_of = store.put(Params({"w": torch.ones(3)}))
    left, other = (
        store.folder / "objects" / "ab" / f".{'0' * 64}.safetensors.{pid}.0123abcd"
        for pid in (4711, 4712)
    )
    left.parent.mkdir()
    for path in (left, other):
        path.write_bytes(b"half")
    store.drop_half_written({4711})
    assert not left.exists() and other.exists()
    assert store.fetch(Params, digest_of)["w"].tolist() == [1.0, 1.0, 1.0]
