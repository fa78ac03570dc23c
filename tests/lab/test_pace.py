"""How long a plan says that a study takes, from made-up times."""

from dataclasses import replace
from pathlib import Path

import pytest

from tombola.lab import plan as planning
from tombola.lab.pace import Pace, pace_of, random_mask
from tombola.lab.plan import plan
from tombola.lab.question import Question
from tombola.lab.store import Store
from tombola.lab.study import arms_of, rule_named
from tombola.recipes.imp import IMP
from tombola.testing import toy_world
from tombola.values.mask import FULL


def question(**changes) -> Question:
    return Question(
        recipe=IMP,
        world=toy_world(steps=1_000, evaluate_every=1_000, judged_density=0.3, **changes),
        seeds=(0, 1),
        arms=arms_of(("dense", "reinit")),
        rule=rule_named("matching"),
        controls_at="all",
    )


def test_sparse_rounds_are_planned_at_what_they_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second for a step in proportion to its density: the sum over rounds, written out."""
    asked = question()
    least = min(target.density for target in asked.targets)
    pace = Pace(step=1.0, sparse=least, sparse_at=least, example=0.0)
    monkeypatch.setattr(planning, "pace_of", lambda world, found: pace if found == least else None)
    densities = [target.density for target in asked.targets]
    work = 2 * 1_000 * (sum(densities) + sum(densities[1:]))  # the ticket's, and reinit's
    found = plan(asked, Store(tmp_path), jobs=1)
    waiting = found["trainings"]["to_run"]
    assert waiting == 2 * (2 * len(densities) - 1)
    assert found["seconds"] == pytest.approx(work, abs=planning.SECONDS_PER_JOB * 4 * waiting)


def test_a_pace_is_timed_at_the_whole_network_and_at_the_least_density() -> None:
    world = toy_world(steps=20)
    whole = pace_of(world)
    assert whole.sparse == whole.step > 0 and whole.example > 0
    thin = pace_of(world, 0.2)
    assert 0 < thin.sparse <= thin.at(0.5) <= thin.step and thin.sparse_at == 0.2


def test_a_random_mask_keeps_about_its_density() -> None:
    world = replace(toy_world(), name="other")
    assert random_mask(world, 1.0) is FULL
    kept = sum(random_mask(world, 0.3).kept(layer.name, layer.count) for layer in world.layers)
    assert kept / sum(layer.count for layer in world.layers) == pytest.approx(0.3, abs=0.12)
