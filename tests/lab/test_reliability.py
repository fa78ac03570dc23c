"""Studies that are killed, or run by several processes on one store, reach the same bytes."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import small_world

import tombola as tb
from tombola.lab.engines.processes import can_fork
from tombola.lab.store import Store
from tombola.recipes.imp import IMP

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes need fork")

SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
import tombola.train.loop
tombola.train.loop.CHECKPOINT_SECONDS = 0.05   # so that kills fall between checkpoints, and in them
sys.path.insert(0, {tests!r})
from toy import small_world
import tombola as tb
from tombola.recipes.imp import IMP
print("ready", flush=True)
tb.find(IMP, small_world(steps=400), seeds=2, jobs=2, store={store!r})
print("done", flush=True)
"""


def results(store: Path) -> dict[str, object]:
    """Everything a call is known by, less what is noted beside it (seconds, host)."""
    found = {}
    for path in (store / "calls").rglob("*.json"):
        content = json.loads(path.read_text())
        found[content["key"]] = content["result"]
    return found


def test_a_study_killed_at_random_moments_reaches_the_bytes_of_an_undisturbed_one(tmp_path) -> None:
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    tb.find(IMP, small_world(steps=400), seeds=2, store=calm)
    moments, kills = random.Random(3), 0
    for _ in range(40):
        done = _run_and_kill(stormy, moments.uniform(0.0, 0.8) if kills < 5 else 120.0)
        if done:
            break
        kills += 1
    assert done
    assert kills >= 3
    assert results(stormy) == results(calm)
    objects = {p.name for p in (calm / "objects").rglob("*.safetensors")}
    assert objects == {p.name for p in (stormy / "objects").rglob("*.safetensors")}
    assert not list((stormy / "legs").glob("*/*"))


def _run_and_kill(store: Path, after: float) -> bool:
    """Start the study, kill its process group `after` seconds of work; True if it finished."""
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), store=str(store))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        process.stdout.close()
    return process.returncode == 0


def _study(store: Path, seeds: int) -> None:
    tb.find(IMP, small_world(), seeds=seeds, store=store)


def test_several_processes_may_work_on_one_store(tmp_path) -> None:
    calm, shared = tmp_path / "calm", tmp_path / "shared"
    _study(calm, 3)
    Store(shared)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_study, args=(shared, 3)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert results(shared) == results(calm)


def test_children_of_a_killed_driver_do_not_work_on(tmp_path) -> None:
    """Nobody would hear their results, and the next call starts the same work."""
    store = tmp_path / "store"
    text = SCRIPT.format(tests=str(Path(__file__).parents[1]), store=str(store))
    script = text.replace("steps=400", "steps=100_000")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        children: list[int] = []
        until = time.monotonic() + 60
        while len(children) < 2 and time.monotonic() < until:
            time.sleep(0.05)
            children = _children(process.pid)
        assert len(children) == 2
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    until = time.monotonic() + 30
    while time.monotonic() < until and any(_alive(child) for child in children):
        time.sleep(0.05)
    assert not any(_alive(child) for child in children)


def _children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(child) for child in listed.split()]


def _alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
