"""Making room: nothing that a study needs goes, and every way through leaves a sound store."""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy import small_world

import tombola as tb
from tombola.cli import main
from tombola.errors import WorkError
from tombola.lab.engines.processes import can_fork
from tombola.lab.events import Finished
from tombola.lab.gc import ORDER, Sweep, Why, droppable, free, sweep
from tombola.lab.question import Question
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.lab.study import open_study
from tombola.lab.verify import verify
from tombola.pieces.rewind import ToStep
from tombola.recipes.controls import CONTROLS
from tombola.recipes.imp import IMP
from tombola.recipes.recipe import Recipe
from tombola.train.executors.sparse import Sparse
from tombola.values.mask import Mask
from tombola.values.params import Params

REWINDS = replace(IMP, name="rewinds", rewind=ToStep(step=10))
DAY = 86_400.0


def question(recipe: Recipe = IMP, seeds: int = 1) -> Question:
    arms = {"dense": CONTROLS["dense"]}
    return Question(recipe=recipe, world=small_world(), seeds=tuple(range(seeds)), arms=arms)


def find(store: Store | Path, recipe: Recipe = IMP, seeds: int = 1, **more: Any) -> tb.Study:
    return tb.find(recipe, small_world(), seeds=seeds, arms=("dense",), store=store, **more)


def interrupt(store: Store | Path, after: int, **which: Any) -> None:
    """A study that fails when so many of its jobs are done."""
    left = after

    def watch(event: Any) -> None:
        nonlocal left
        left -= isinstance(event, Finished)
        if left == 0:
            raise WorkError("the power went")

    with pytest.raises(WorkError, match="power"):
        find(store, watchers=(watch,), **which)


def age(store: Store, seconds: float = DAY) -> None:
    """Let everything have been used so long ago."""
    for held in store.files():
        used = held.used - int(seconds * 1e9)
        os.utime(held.path, ns=(used, used))


def contents(store: Store) -> dict[str, bytes]:
    """What lies in a store, but for what is noted in passing."""
    return {
        str(held.path.relative_to(store.folder)): held.path.read_bytes()
        for held in store.files()
        if held.part != "studies"
    }


def missing(store: Store, asked: Question) -> int:
    """How many calls of a study would have to be computed."""
    runner = Runner(store, None)
    runner.drive(asked.loops())
    return len(runner.tally.run)


def assert_whole(store: Store, asked: Question) -> None:
    """A study that stays: nothing is computed again, everything verifies, tickets can be had."""
    assert missing(store, asked) == 0
    study = open_study(store, asked.digest)
    found = verify(asked, store, sample=0, rows=study.rows)
    assert (found["missing"], found["differences"], found["rows_equal"]) == (0, [], True)
    for trial in study.facts["trials"]:
        assert store.fetch(Params, trial["params"]) and store.fetch(Params, trial["init"])
        assert store.fetch(Mask, trial["mask"]).digest == trial["mask"]


def parts(found: Sweep) -> set[str]:
    return {held.part for held in found.going}


def why(found: Sweep, part: str) -> set[Why]:
    return {reason for held, reason in found.staying if held.part == part}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two studies that share a seed's dense training, and one that rewinds; a day old."""
    store = Store(tmp_path_factory.mktemp("gc") / "store")
    find(store)
    find(store, seeds=2)
    find(store, REWINDS)
    age(store)
    return store


@pytest.fixture
def store(full: Store, tmp_path: Path) -> Store:
    shutil.copytree(full.folder, tmp_path / "store")
    return Store(tmp_path / "store")


# -- what stays ------------------------------------------------------------------------------


def test_nothing_goes_where_studies_need_all(store: Store) -> None:
    found = sweep(store, unused_for=0.0)
    assert found.going == ()
    assert why(found, "calls") == why(found, "objects") == why(found, "studies") == {Why.NEEDED}
    assert why(found, "legs") == {Why.EARLY}
    assert {held.path for held, _ in found.staying} == {held.path for held in store.files()}


def test_a_study_given_up_takes_what_it_alone_needs(store: Store) -> None:
    gone, stays = question(seeds=2), [question(), question(REWINDS)]
    before, first = contents(store), open_study(store, gone.digest).rows
    found = sweep(store, {gone.digest})
    assert parts(found) == {"studies", "calls", "objects"}
    kinds = [store.call(held.name)["kind"] for held in found.going if held.part == "calls"]
    assert found.steps == 40 * kinds.count("train") > 0
    assert free(store, found) == sum(held.bytes for held in found.going)
    assert not {held.path for held in found.going} & {held.path for held in store.files()}
    for asked in stays:
        assert_whole(store, asked)
    assert missing(store, gone) > 0
    assert find(store, seeds=2).rows == first
    assert contents(store).keys() == before.keys()


def test_what_two_studies_share_stays_with_either(store: Store) -> None:
    """The study of two seeds has all that the study of one has."""
    found = sweep(store, {question().digest})
    assert [held.part for held in found.going] == ["studies"]


def test_all_studies_given_up_leave_an_empty_store(store: Store) -> None:
    free(store, sweep(store, droppable(store)))
    assert list(store.files()) == []
    assert {path.name for path in (store.folder / "objects").iterdir()} == set()


def test_the_early_state_serves_another_rewinding_study_until_its_study_goes(store: Store) -> None:
    later = replace(IMP, name="later", rewind=ToStep(step=25))
    free(store, sweep(store))
    study = find(store, later)
    rounds = len(IMP.targets(small_world())) - 1
    assert study.document["cost"]["steps_trained"] == 15 + rounds * 15  # 10 to 25; 25 to 40
    rewinding = {question(REWINDS).digest, study.digest}
    assert "legs" not in parts(
        sweep(store, rewinding, unused_for=0.0)
    )  # dense is the same training
    free(store, sweep(store, {*rewinding, question().digest, question(seeds=2).digest}))
    assert not list((store.folder / "legs").iterdir())


# -- what goes -------------------------------------------------------------------------------


def _half_written(store: Store) -> Path:
    return store.folder / "calls" / ".a.json.77.0123abcd"


def _set_aside(store: Store) -> Path:
    return store.folder / "damaged" / "objects-a.safetensors.0123abcd"


def _finished_training(store: Store) -> Path:
    """Killed after its result was stored, before its last checkpoint was removed."""
    leg = next(held for held in store.files() if held.part == "legs")
    return leg.path.with_name("000000000030.checkpoint")


def _training_of_nobody(store: Store) -> Path:
    return store.folder / "legs" / "f00" / "000000000030.leg"


def _report_of_nobody(store: Store) -> Path:
    return store.folder / "reports" / f"{'0' * 64}.html"


def _object_of_nobody(store: Store) -> Path:
    return store.folder / "objects" / "00" / f"{'0' * 64}.safetensors"


def _claim_of_nobody(store: Store) -> Path:
    return store.folder / "claims" / ("0" * 64)


def _ended_command(store: Store) -> Path:
    """Killed when its study was stored already."""
    return store.folder / "work" / f"{question().digest}.0123abcd"


LITTER: list[Callable[[Store], Path]] = [
    _half_written,
    _set_aside,
    _finished_training,
    _training_of_nobody,
    _report_of_nobody,
    _object_of_nobody,
    _claim_of_nobody,
    _ended_command,
]


@pytest.mark.parametrize("litter", LITTER, ids=lambda litter: litter.__name__)
def test_litter_goes_when_it_is_an_hour_old(store: Store, litter: Callable[[Store], Path]) -> None:
    before, path = contents(store), litter(store)
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({"began": 0.0, "study": question().digest, "recipe": "", "world": ""})
    )
    os.utime(path, (time.time() - 3500, time.time() - 3500))
    young = sweep(store)
    assert young.going == ()
    assert (path, Why.LATELY) in [(held.path, reason) for held, reason in young.staying]
    os.utime(path, (time.time() - 3700, time.time() - 3700))
    found = sweep(store)
    assert [held.path for held in found.going] == [path]
    assert free(store, found) == found.going[0].bytes
    assert contents(store) == before


def test_what_is_not_ours_stays(store: Store) -> None:
    mine = [
        store.folder / "notes.txt",
        store.folder / "calls" / "ab" / "notes.txt",
        store.folder / "mlflow" / "runs.db",
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        os.utime(path, (0, 0))
    free(store, sweep(store, droppable(store)))
    assert all(path.exists() for path in mine)


def test_results_of_no_study_go_and_results_used_lately_stay_with_what_they_name(
    store: Store,
) -> None:
    (store.folder / "studies" / f"{question(seeds=2).digest}.json").unlink()
    found = sweep(store)
    assert parts(found) == {"calls", "objects"}
    lately = next(held for held in found.going if held.part == "calls")
    os.utime(lately.path)
    again = sweep(store)
    named = store.objects_of(lately.name)
    assert named
    staying = {held.name for held, reason in again.staying if reason is Why.LATELY}
    assert staying == {lately.name} | (named & {held.name for held in found.going})
    assert len(again.going) == len(found.going) - len(staying)


def test_what_is_used_between_the_look_and_the_sweep_stays(store: Store) -> None:
    asked = question(seeds=2)
    found = sweep(store, {asked.digest})
    key = next(held.name for held in found.going if held.part == "calls")
    store.call(key)  # only read: it may go
    runner = Runner(store, None)
    runner.drive(asked.loops())
    free(store, found)
    assert missing(store, asked) == 0  # the study's record is gone, nothing that was just used


def test_an_old_tensor_that_a_command_at_work_makes_again_stays(store: Store) -> None:
    value = Params({})
    store.put(value)
    age(store)
    assert [held.name for held in sweep(store).going] == [value.digest]
    with store.at_work(None, "imp", "toy"):
        store.put(value)  # there already: only its time changes
        assert sweep(store, unused_for=0.0).going == ()


def test_tickets_of_a_study_stay_where_a_record_is_damaged(store: Store) -> None:
    for held in list(store.files("calls")):
        held.path.write_text("{")
    free(store, sweep(store))
    study = open_study(store, question().digest)
    for trial in study.facts["trials"]:
        assert study.ticket(arm=trial["arm"], round=trial["round"]).mask.digest == trial["mask"]


# -- killed half-way -------------------------------------------------------------------------


def test_every_beginning_of_a_sweep_leaves_a_sound_store(store: Store, tmp_path: Path) -> None:
    gone, stays = question(seeds=2), question(REWINDS)
    (store.folder / "reports").mkdir()
    (store.folder / "reports" / f"{gone.digest}.html").write_text("<html>")
    age(store)
    whole = sweep(store, {gone.digest}).going
    assert [ORDER.index(held.part) for held in whole] == sorted(
        ORDER.index(held.part) for held in whole
    )
    ends = []
    for number, held in enumerate(whole):
        if number % 6 == 0:  # the rest may be swept later
            other = Store(shutil.copytree(store.folder, tmp_path / f"killed{number}"))
            free(other, sweep(other, {gone.digest} & set(droppable(other))))
            ends.append(contents(other))
        held.path.unlink()
        names = {held.name for held in store.files() if held.part == "objects"}
        for call in store.files("calls"):
            assert store.objects_of(call.name) <= names  # each call that is left is whole
        assert missing(store, stays) == missing(store, question()) == 0
    assert len(ends) >= 4 and all(end == contents(store) for end in ends)


# -- beside other processes ------------------------------------------------------------------


def test_what_a_command_at_work_uses_stays_even_when_its_study_is_given_up(store: Store) -> None:
    asked = question(seeds=2)
    with store.at_work(asked.digest, "imp", "toy"):
        writing = store.folder / "objects" / ".a.safetensors.77.0123abcd"
        writing.write_text("half")
        assert writing not in [held.path for held in sweep(store, unused_for=0.0).going]
        assert sweep(store, {asked.digest}, unused_for=0.0).going  # not used since it began
        Runner(store, None).drive(asked.loops())
        found = sweep(store, {asked.digest}, unused_for=0.0)
        assert parts(found) == {"studies"}
    assert "calls" in parts(sweep(store, {asked.digest}, unused_for=0.0))


def _find_slowly(folder: Path) -> None:
    def watch(event: Any) -> None:
        if isinstance(event, Finished) and event.stored:
            time.sleep(0.05)

    find(folder, seeds=3, watchers=(watch,))


@pytest.mark.skipif(not can_fork(), reason="processes need fork")
def test_a_study_reaches_its_end_and_its_bytes_while_room_is_made(
    store: Store, tmp_path: Path
) -> None:
    calm = Store(tmp_path / "calm")
    first = find(calm, seeds=3)
    process = multiprocessing.get_context("fork").Process(target=_find_slowly, args=(store.folder,))
    process.start()
    sweeps = freed = 0
    while process.is_alive():
        found = sweep(store, {question(seeds=2).digest}, unused_for=0.0)
        freed += free(store, found)
        sweeps += 1
    process.join()
    assert process.exitcode == 0
    assert sweeps > 5 and freed > 0
    assert open_study(store, first.digest).rows == first.rows
    for asked in (question(seeds=3), question(), question(REWINDS)):
        assert_whole(store, asked)


def test_an_interrupted_study_keeps_what_it_has_until_it_is_done_or_given_up(
    tmp_path: Path,
) -> None:
    store, asked = Store(tmp_path / "store"), question(seeds=2)
    interrupt(store, 4, seeds=2)
    age(store)
    left = missing(store, asked)
    age(store)
    found = sweep(store)
    assert found.going == () and why(found, "calls") == {Why.INTERRUPTED}
    assert [command.study for command in found.interrupted] == [asked.digest]
    assert droppable(store) == [asked.digest]
    other = Store(shutil.copytree(store.folder, tmp_path / "other"))

    assert find(store, seeds=2).document["cost"]["steps_trained"] < 40 * left
    assert store.commands() == []
    assert missing(store, asked) == 0

    free(other, sweep(other, {asked.digest}))
    assert list(other.files()) == []


def test_an_unfinished_training_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tombola.train.loop.CHECKPOINT_SECONDS", 0.0)  # at every step
    monkeypatch.setattr(Sparse, "most", 1)
    store, record = Store(tmp_path / "store"), Store.record

    def until_trained(self: Store, key: str, kind: str, *more: Any) -> None:
        if kind == "train":
            raise WorkError("the power went")
        record(self, key, kind, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "record", until_trained)
        with pytest.raises(WorkError, match="power"):
            find(store)
    age(store)
    found = sweep(store)
    assert found.going == () and why(found, "checkpoints") == {Why.INTERRUPTED}
    other = Store(shutil.copytree(store.folder, tmp_path / "other"))
    free(other, sweep(other, {question().digest}))
    assert list(other.files()) == []
    whole = find(other).document["cost"]["steps_trained"]
    assert find(store).document["cost"]["steps_trained"] == whole - 39  # all but its last step


def test_a_damaged_study_blocks_the_sweep_until_it_is_found_again_or_given_up(
    store: Store, tmp_path: Path
) -> None:
    lost = question(seeds=2)
    (store.folder / "studies" / f"{lost.digest}.json").write_text("{")
    for look in (1, 2):  # set aside by the first
        found = sweep(store, unused_for=0.0)
        assert found.going == (), look
        assert found.lost == (lost.digest,)
        assert Why.LOST in why(found, "calls")
    other = Store(shutil.copytree(store.folder, tmp_path / "other"))
    free(other, sweep(other, {lost.digest}, unused_for=0.0))
    assert missing(other, lost) > 0 and missing(other, question()) == 0
    assert sweep(other).lost == ()

    assert find(store, seeds=2).document["cost"]["steps_trained"] == 0
    age(store)
    assert parts(sweep(store)) == {"damaged"}


# -- the command -----------------------------------------------------------------------------


class Terminal:
    """Somebody at the keyboard."""

    def __init__(self, says: str) -> None:
        self.says = says

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.says


def run(capsys: pytest.CaptureFixture[str], store: Store, *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["gc", *argv, "--store", str(store.folder)])
    return status, *capsys.readouterr()


def test_the_command_asks_first(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, before = question(seeds=2).digest[:8], contents(store)
    status, out, err = run(capsys, store, "--drop", name)
    assert (status, out) == (2, "") and "--yes" in err
    for says in ("n\n", "\n", ""):
        monkeypatch.setattr("sys.stdin", Terminal(says))
        status, out, err = run(capsys, store, "--drop", name)
        assert status == 0 and out.startswith("0 bytes freed") and "could go" in err
        assert contents(store) == before
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    status, out, _ = run(capsys, store, "--drop", name)
    assert status == 0 and "freed in" in out
    assert missing(store, question(seeds=2)) > 0


def test_the_document_says_what_went(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    name = question(seeds=2).digest
    _, out, _ = run(capsys, store, "--drop", name[:8], "--dry-run", "--json")
    could = json.loads(out)
    assert could["freed_bytes"] == 0 and could["dropped"] == [name]
    status, out, err = run(capsys, store, "--drop", name[:8], "--yes", "--json")
    went = json.loads(out)
    assert (status, err) == (0, "")
    assert went["freed_bytes"] == sum(entry["bytes"] for entry in went["going"].values()) > 0
    assert {key: value for key, value in went.items() if key != "freed_bytes"} == {
        key: value for key, value in could.items() if key != "freed_bytes"
    }
    again = json.loads(run(capsys, store, "--yes", "--json")[1])
    assert again["going"] == {} and again["freed_bytes"] == 0


def test_people_read_what_goes_what_stays_and_why(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(store, 14, seeds=4)
    (store.folder / "studies" / f"{question(REWINDS).digest}.json").write_text("{")
    _, out, _ = run(capsys, store, "--dry-run", "--unused-for", "0")
    text = " ".join(out.split())
    assert "was interrupted. Repeat its `tombola find`" in text
    assert "is damaged. Repeat its `tombola find`" in text
    assert all(f"stay: {reason.value}" in text for reason in (Why.NEEDED, Why.LOST))
    _, out, _ = run(capsys, store, "--dry-run", "--drop", question(seeds=2).digest)
    assert "records of the studies dropped" in " ".join(out.split())


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--drop", "zz"), "no study begins with 'zz'"),
        (("--drop", ""), "3 studies begin with ''"),
        (("--unused-for", "-1"), "0 or more"),
        (("--unused-for", "nan"), "0 or more"),
    ],
)
def test_a_wrong_call_takes_nothing_away(
    store: Store, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], says: str
) -> None:
    before = contents(store)
    status, out, err = run(capsys, store, *argv, "--yes")
    assert (status, out) == (2, "") and says in err
    assert contents(store) == before
