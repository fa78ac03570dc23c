"""Studies that are killed, damaged, short of room, or several at once reach the same bytes.

The scripts of `benchmarks/` do the same at length: kills.py, processes.py, damage.py, full_disk.py.
"""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from damages import COMMANDS, Patient, damages
from storms import Running, objects, results, say, unsound, warm_up
from toy import small_world

import tombola.lab.presence
from tombola.lab.engines.inline import Inline
from tombola.lab.engines.processes import can_fork
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.recipes.job import job_key
from tombola.recipes.jobs import Init

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes need fork")

MODULE = "reliable_worlds"
TEXT = """
from toy import small_world


def world():
    return small_world()


def longer():
    return small_world(steps=200)


def endless():
    return small_world(steps=1_000_000)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory with a module of worlds, importable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("TOMBOLA_STORE", raising=False)
    (tmp_path / f"{MODULE}.py").write_text(TEXT)
    yield tmp_path


def find(store: Path, log: str, *more: str, world: str = "world", **how: Any) -> Running:
    call = [
        "find",
        "imp",
        "--on",
        f"{MODULE}:{world}",
        "--yes",
        "--quiet",
        "--json",
        "--store",
        str(store),
    ]
    return Running([*call, *(more or ("--seeds", "2"))], store.parent / log, **how)


def table(running: Running) -> Any:
    assert running.wait() == 0, running.err
    return json.loads(running.out)["rows"]


# -- kills -----------------------------------------------------------------------------------


def test_a_study_killed_at_random_moments_reaches_the_bytes_of_an_undisturbed_one(
    here: Path,
) -> None:
    calm, stormy = here / "calm", here / "stormy"
    warm_up()
    began = time.monotonic()
    call, how = ("--seeds", "1", "--jobs", "2"), {"world": "longer", "checkpoint_seconds": 0.03}
    wanted = table(find(calm, "calm", *call, **how))
    whole, choose, kills = time.monotonic() - began, random.Random(3), 0
    for life in range(6):
        running = find(stormy, f"{life}", *call, **how)
        if running.wait(choose.uniform(0.2, 0.6) * whole) is not None:
            break
        if life % 4 == 3:
            running.kill_a_child(choose)
            time.sleep(0.05)
        running.kill()
        kills += 1
        assert unsound(stormy) == []
    assert kills >= 2
    assert table(find(stormy, "last", *call, **how)) == wanted
    assert results(stormy) == results(calm) and objects(stormy) == objects(calm)
    for left in (*stormy.rglob(".*.*.*"), *stormy.glob("claims/*")):  # of the killed, long ago
        os.utime(left, (0, 0))
    assert say("gc", "--unused-for", "0", "--yes", "--store", stormy).status == 0
    assert files(stormy) == files(calm)


def files(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


def test_children_of_a_killed_driver_do_not_work_on(here: Path) -> None:
    """Nobody would hear their results, and the next call starts the same work."""
    running = find(here / "store", "log", "--seeds", "2", "--jobs", "2", world="endless")
    children: list[int] = []
    until = time.monotonic() + 60
    while len(children) < 2 and time.monotonic() < until:
        time.sleep(0.02)
        children = running.children()
    assert len(children) == 2
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    until = time.monotonic() + 30
    while time.monotonic() < until and any(_alive(child) for child in children):
        time.sleep(0.02)
    assert not any(_alive(child) for child in children)


def _alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


# -- several at once -------------------------------------------------------------------------


def test_commands_that_share_a_store_share_the_work(here: Path) -> None:
    calls = [("--seeds", "2"), ("--seeds", "2"), ("--seeds", "1,2")]
    wanted = [table(find(here / f"alone{n}", f"a{n}", *call)) for n, call in enumerate(calls)]
    shared = here / "shared"
    running = [find(shared, f"s{n}", *call, "--jobs", "1") for n, call in enumerate(calls)]
    assert [table(one) for one in running] == wanted
    for number in range(len(calls)):
        lone = results(here / f"alone{number}")
        assert {key: results(shared)[key] for key in lone} == lone
    trained = sum(json.loads(one.out)["cost"]["steps_trained"] for one in running)
    records = (json.loads(path.read_text()) for path in (shared / "calls").rglob("*.json"))
    assert trained == sum(record["context"]["steps"] for record in records)  # nothing twice
    assert unsound(shared) == [] and not any((shared / "claims").iterdir())


def _init(store: Store) -> tuple[str, Runner]:
    job = Init(world=small_world(), seed=0)
    return job_key(job), Runner(store, Inline(store))


def _asks(job: Any) -> Any:
    return (yield job)


def test_a_job_that_another_process_is_at_is_waited_for_and_not_done_again(here: Path) -> None:
    store = Store(here / "store")
    key, runner = _init(store)
    job = Init(world=small_world(), seed=0)
    claim, waited = store.claim(key), 0

    def finish_elsewhere(seconds: float) -> None:
        nonlocal waited
        waited += 1
        if waited == 3:
            store.record(key, "init", job.run(None), {"steps": 0})
            claim.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tombola.lab.runner.time.sleep", finish_elsewhere)
        runner.drive({0: _asks(job)})
    assert waited == 3
    assert list(runner.tally.stored) == [key] and not runner.tally.run


def test_a_job_is_taken_over_from_a_process_that_shows_no_life(here: Path) -> None:
    store = Store(here / "store")
    key, runner = _init(store)
    claim = store.claim(key)
    assert claim is not None and store.claim(key) is None
    long_ago = time.time() - tombola.lab.presence.SILENCE - 1
    os.utime(here / "store" / "claims" / key, (long_ago, long_ago))
    runner.drive({0: _asks(Init(world=small_world(), seed=0))})
    assert list(runner.tally.run) == [key]
    claim.release()
    assert not any((here / "store" / "claims").iterdir())


def test_a_claim_goes_with_its_process_and_is_let_go_after_an_error(here: Path) -> None:
    running = find(here / "store", "log", "--seeds", "1", "--jobs", "1", world="endless")
    claims = here / "store" / "claims"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (claims.is_dir() and any(claims.iterdir())):
        time.sleep(0.02)
    (held,) = claims.iterdir()
    store = Store(here / "store")
    assert store.claim(held.name) is None
    running.kill()
    taken = store.claim(held.name)
    assert taken is not None
    taken.release()

    key, runner = _init(store)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="broken"):
        patch.setattr(Init, "run", lambda self, desk: (_ for _ in ()).throw(RuntimeError("broken")))
        runner.drive({0: _asks(Init(world=small_world(), seed=0))})
    again = store.claim(key)
    assert again is not None
    again.release()


# -- damage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    folder = tmp_path_factory.mktemp("patient")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.delenv("TOMBOLA_STORE", raising=False)
        yield Patient(folder)


KINDS = [
    *("object, init", "object, mask", "object, params", "legs", "studies", "format.json"),
    *("call record, init", "call record, train", "call record, prune", "call record, shuffle"),
    *(f"{part} of an unfinished study" for part in ("checkpoints", "objects", "calls", "work")),
]


@pytest.mark.parametrize("target", KINDS)
def test_what_is_damaged_is_said_or_made_again(patient: Patient, target: str) -> None:
    number = KINDS.index(target)
    cases = list(damages(patient.targets[target].read_bytes(), 3, 3, random.Random(number)))
    command = list(COMMANDS)[number % len(COMMANDS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(patient.store.parent)
        assert patient.wrong(target, cases[number % len(cases)], command) == []


def test_damage_to_a_result_would_be_seen(patient: Patient) -> None:
    """A table that differs, and a result that is not what its name says."""
    told = patient.told("judge", patient.whole)
    other = told.out.replace('"n": 1', '"n": 2')
    assert other != told.out
    assert patient._unlike("judge", told) == []
    assert patient._unlike("judge", type(told)(0, other, "")) != []
    assert patient._unlike("judge", type(told)(1, "", "no word of ours")) != []
    assert patient._unlike("judge", type(told)(99, "", "KeyError")) != []
    damaged = Path(shutil.copytree(patient.whole, patient.whole.parent / "damaged"))
    path = next((damaged / "objects").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    assert unsound(damaged) != []


# -- no room ---------------------------------------------------------------------------------


def test_a_study_that_runs_out_of_room_keeps_what_it_has_and_goes_on(here: Path) -> None:
    wanted = table(find(here / "calm", "calm", "--seeds", "1"))
    store = here / "store"
    sizes = sorted(path.stat().st_size for path in here.glob("calm/[co]*/*/*"))
    for limit in (300, sizes[len(sizes) // 2]):  # 300 bytes: room for a message, not for a result
        running = find(store, f"full{limit}", "--seeds", "1", file_limit=limit)
        assert running.wait() == 1
        assert "File too large" in running.err and "Traceback" not in running.err
        assert unsound(store) == [] and not any(store.rglob(".*.*.*"))
    kept = len(results(store))
    assert 0 < kept < len(results(here / "calm"))
    assert table(find(store, "room", "--seeds", "1")) == wanted
    assert results(store) == results(here / "calm")
