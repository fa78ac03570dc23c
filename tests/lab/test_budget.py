"""Studies that are to take so many minutes: how many steps that is, and that they repeat without a
clock."""

from dataclasses import replace
from pathlib import Path

import pytest

import tombola as tb
from tombola.errors import CallError
from tombola.lab import budget
from tombola.lab.budget import within
from tombola.lab.pace import Pace
from tombola.lab.plan import seconds_of
from tombola.lab.question import Question
from tombola.lab.store import Store
from tombola.lab.study import planned
from tombola.testing import toy_world

PACE = Pace(step=1e-3, sparse=1e-3, sparse_at=1.0, example=0.0)


def question(steps: int = 4_000, **more: object) -> Question:
    world = toy_world(steps=steps, evaluate_every=steps // 10, **more)
    return Question(recipe=tb.recipes.IMP, world=world, seeds=(0, 1))


def seconds(asked: Question, folder: Path, pace: Pace = PACE, jobs: int = 1) -> float:
    return seconds_of(planned(asked, Store(folder, create=False)), pace, jobs, {})


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_as_many_steps_as_fit(share: float, jobs: int, tmp_path: Path) -> None:
    whole = question()
    minutes = share * seconds(whole, tmp_path, jobs=jobs) / 60
    found = within(whole, minutes, jobs=jobs, pace=PACE)
    steps = found.world.steps
    assert found.world.name == f"toy,steps={steps}"
    assert seconds(found, tmp_path, jobs=jobs) <= 60 * minutes
    more = replace(whole, world=tb.varied(whole.world, steps=int(1.15 * steps) + 1))
    assert seconds(more, tmp_path, jobs=jobs) > 60 * minutes
    assert int(str(steps)[2:] or 0) == 0  # two digits, so that a slower second changes nothing


def test_a_budget_is_a_question_about_an_ordinary_world(tmp_path: Path) -> None:
    whole = question()
    found = within(whole, seconds(whole, tmp_path) / 120, pace=PACE)
    again = Question(
        recipe=whole.recipe,
        world=tb.varied(whole.world, steps=found.world.steps),
        seeds=whole.seeds,
    )
    assert again.digest == found.digest != whole.digest


def test_readings_and_rewinds_count() -> None:
    slow = Pace(step=1e-3, sparse=1e-3, sparse_at=1.0, example=1e-4)
    assert (
        within(question(), 1, pace=slow).world.steps < within(question(), 1, pace=PACE).world.steps
    )
    late = Question(recipe=tb.recipes.IMP_REWIND, world=toy_world(steps=2_000), seeds=(0,))
    with pytest.raises(CallError, match=r"0\.001 minutes are too few .* fewer seeds"):
        within(late, 0.001, pace=PACE)


def test_with_time_enough_nothing_changes() -> None:
    whole = question()
    assert within(whole, 1e6, pace=PACE) is whole


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan"), "ten"])
def test_no_number_of_minutes(minutes: object) -> None:
    with pytest.raises(CallError, match=r"minutes=.*: want a number over 0"):
        within(question(), minutes, pace=PACE)  # type: ignore[arg-type]


def test_a_study_repeats_without_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "pace_of", lambda world, least: PACE)
    world = toy_world(steps=400, evaluate_every=40)
    how = {"seeds": 1, "arms": ("dense",), "store": tmp_path / "store"}
    study = tb.find(tb.recipes.ONESHOT, world, minutes=0.06, **how)
    steps = int(study.document["world"].removeprefix("toy,steps="))
    assert 10 <= steps < 400
    monkeypatch.setattr(budget, "pace_of", lambda world, least: pytest.fail("was timed"))
    again = tb.find(tb.recipes.ONESHOT, tb.varied(world, steps=steps), **how)
    assert again.digest == study.digest and again.document["cost"]["steps_trained"] == 0
