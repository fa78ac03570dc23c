"""Validation curves against a slow twin, and against what the store holds."""

import numpy as np
import pytest
from toy import small_world

import tombola as tb
from tombola.lab.statistics import summarise
from tombola.lab.study import Study
from tombola.out.report.curves import MOST_POINTS, curves_of, mean_curve
from tombola.recipes.jobs import Trained


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    arms = ("dense", tb.recipes.Reinit(draws=2))
    store = tmp_path_factory.mktemp("curves") / "store"
    return tb.find(tb.recipes.IMP, small_world(), seeds=3, arms=arms, store=store)


def readings(*values: float, every: int = 10) -> list[dict[str, float]]:
    return [{"step": every * (k + 1), "loss": value} for k, value in enumerate(values)]


def test_a_mean_curve_is_the_summary_at_each_step() -> None:
    """Three seeds; the second diverged after two readings, the third had two draws, one of which
    diverged."""
    seeds = [
        [readings(3.0, 2.0, 1.0, 0.5)],
        [readings(4.0, 2.5)],
        [readings(1.0, 3.0, 0.5, 0.25), readings(2.0, 1.0, 1.5)],
    ]
    curve = mean_curve(seeds, "loss")
    assert curve.steps.tolist() == [10, 20, 30, 40]
    each = [[3.0, 4.0, 1.5], [2.0, 2.5, 2.0], [1.0, 1.0], [0.5, 0.25]]
    for place, values in enumerate(each):
        slow = summarise(values)
        assert curve.n[place] == len(values)
        found = (curve.mean[place], curve.low[place], curve.high[place])
        assert found == pytest.approx((slow.mean, slow.low, slow.high))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    curve = mean_curve([[readings(3.0, 2.0)]], "loss")
    assert curve.mean.tolist() == [3.0, 2.0]
    assert np.isnan(curve.low).all() and np.isnan(curve.high).all()


def test_thinning_keeps_the_last_reading() -> None:
    long = [readings(*map(float, range(250)))]
    curve = mean_curve([long], "loss", every=4)
    assert curve.steps.tolist() == [10 * (k + 1) for k in range(250) if (249 - k) % 4 == 0]
    assert curve.mean[-1] == 249.0


@pytest.mark.parametrize(("readings_made", "every", "points"), [(100, 1, 100), (101, 2, 51)])
def test_a_long_curve_is_thinned_to_about_a_hundred_points(
    tmp_path, readings_made: int, every: int, points: int
) -> None:
    world = small_world(steps=readings_made, evaluate_every=1)
    study = tb.find(tb.recipes.IMP, world, seeds=1, arms=("dense",), store=tmp_path / "s")
    curves = curves_of(study)
    assert curves.every == every
    assert len(curves.of["dense", 0]["loss"].steps) == points <= MOST_POINTS


def test_curves_are_what_the_store_holds(study: Study) -> None:
    """Every arm, round and step, with the two draws of reinit averaged before the seeds."""
    curves = curves_of(study)
    assert curves.metrics == ("loss", "accuracy") and curves.missing == ()
    places = {(row["arm"], row["round"]) for row in study.rows}
    assert set(curves.of) == places
    for arm, number in places:
        by_seed: dict[int, list[list[dict[str, float]]]] = {}
        for trial in study.facts["trials"]:
            if (trial["arm"], trial["round"]) == (arm, number):
                trained = study.store.recall(trial["call"], Trained)
                by_seed.setdefault(trial["seed"], []).append(trained.readings)
        assert [len(draws) for draws in by_seed.values()] == [2 if arm == "reinit" else 1] * 3
        curve = curves.of[arm, number]["accuracy"]
        for place, step in enumerate(curve.steps):
            seeds = [
                np.mean([next(r["accuracy"] for r in one if r["step"] == step) for one in draws])
                for draws in by_seed.values()
            ]
            assert curve.mean[place] == pytest.approx(np.mean(seeds))
            assert curve.n[place] == 3


def test_a_training_that_is_lost_is_named_and_the_rest_is_there(tmp_path) -> None:
    study = tb.find(tb.recipes.IMP, small_world(), seeds=2, store=tmp_path / "s")
    lost = next(t for t in study.facts["trials"] if t["arm"] == "shuffle" and t["seed"] == 1)
    study.store.forget(lost["call"])
    curves = curves_of(study)
    assert curves.missing == (("shuffle", lost["round"], 1),)
    assert set(curves.of["shuffle", lost["round"]]["loss"].n.tolist()) == {1}
    assert set(curves.of["ticket", lost["round"]]["loss"].n.tolist()) == {2}
