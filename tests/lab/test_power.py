"""How many seeds a rule needs: against simulated studies, another library, and stored trials."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import small_world

import tombola as tb
from tombola.errors import VerdictError
from tombola.lab.power import TooFewError, power_from, power_of, widest
from tombola.lab.question import Question
from tombola.lab.store import Store
from tombola.lab.study import arms_of
from tombola.lab.verdict import MATCHING, Matches, Outcome, Rule, Samples, judge
from tombola.recipes.imp import IMP

ALONE = Rule(
    name="alone",
    conditions=(Matches(name="matches-dense", metric="test_accuracy"),),
    least_seeds=2,
    summary="matches dense",
)


def arms(**means: float) -> dict[str, float]:
    return {"ticket": 0.95, "dense": 0.95, "reinit": 0.94, "shuffle": 0.94, **means}


def drawn(rng: np.random.Generator, n: int, means: dict[str, float], sd: float) -> Samples:
    return {
        arm: {"test_accuracy": list(rng.normal(mean, sd, size=n))} for arm, mean in means.items()
    }


def exact(means: dict[str, float], sd: float, n: int = 6) -> Samples:
    """A pilot whose paired differences have just these means and spreads."""
    deviates = np.linspace(-1, 1, n)
    deviates /= deviates.std(ddof=1)
    return {
        arm: {"test_accuracy": list(mean + (sd * deviates if arm == "ticket" else 0 * deviates))}
        for arm, mean in means.items()
    }


@pytest.mark.parametrize("margin", [0.005, 0.01, 0.02])
def test_one_condition_needs_what_statsmodels_says(margin: float) -> None:
    solve = pytest.importorskip("statsmodels.stats.power").TTestPower().solve_power
    found = power_of(ALONE, exact(arms(), 0.012), margin=margin, resolution=1)
    wanted = solve(margin / 0.012, None, 0.05, 0.8, alternative="larger")
    assert found.seeds == math.ceil(wanted)
    cautious = solve(margin / widest(0.012, 6), None, 0.05, 0.8, alternative="larger")
    assert found.if_spread == math.ceil(cautious)


def test_so_many_seeds_win_that_often_and_fewer_do_not() -> None:
    """The slow twin: studies drawn at random, judged one by one."""
    means, sd = arms(), 0.01
    found = power_of(MATCHING, exact(means, sd * math.sqrt(2)), margin=0.01, resolution=1)
    assert found.seeds is not None
    rng, draws = np.random.default_rng(0), 200

    def wins(n: int) -> float:
        judged = (
            judge(MATCHING, drawn(rng, n, means, sd), density=0.1, margin=0.01, resolution=1)
            for _ in range(draws)
        )
        return sum(verdict.outcome is Outcome.WINS for verdict in judged) / draws

    assert wins(found.seeds) > 0.75  # .8 is promised, sd .028
    assert wins(found.seeds // 2) < 0.75


def test_a_ticket_that_looks_worse_needs_more_and_beyond_the_margin_no_number() -> None:
    level, worse, beyond = (
        power_of(ALONE, exact(arms(ticket=at), 0.01), margin=0.01, resolution=1)
        for at in (0.95, 0.945, 0.939)
    )
    assert level.seeds is not None and worse.seeds is not None
    assert level.seeds < worse.seeds
    assert beyond.seeds is None
    better = power_of(ALONE, exact(arms(ticket=0.96), 0.01), margin=0.01, resolution=1)
    assert better.seeds == level.seeds  # what looks better is not trusted to be


def test_a_control_that_is_better_or_was_not_trained_leaves_no_number() -> None:
    better = power_of(MATCHING, exact(arms(reinit=0.96), 0.01), margin=0.01, resolution=1)
    assert [need.seeds is None for need in better.conditions] == [False, True, False]
    assert better.seeds is None
    samples = exact(arms(), 0.01)
    without = power_of(
        MATCHING, {a: m for a, m in samples.items() if a != "shuffle"}, margin=0.01, resolution=1
    )
    assert without.conditions[-1].n == 0 and without.seeds is None


def test_no_fewer_than_the_rule_wants() -> None:
    found = power_of(MATCHING, exact(arms(), 1e-6), margin=0.01, resolution=1)
    assert found.seeds == MATCHING.least_seeds


@pytest.mark.parametrize("margin", [-0.01, float("nan")])
def test_a_margin_that_is_none(margin: float) -> None:
    with pytest.raises(VerdictError, match="margin"):
        power_of(ALONE, exact(arms(), 0.01), margin=margin, resolution=1)


def test_a_power_that_is_none_and_too_small_a_pilot() -> None:
    with pytest.raises(VerdictError, match=r"power=1\.2"):
        power_of(ALONE, exact(arms(), 0.01), margin=0.01, resolution=1, power=1.2)
    with pytest.raises(TooFewError, match="got 2 seeds of matches-dense, want 3"):
        power_of(ALONE, exact(arms(), 0.01, n=2), margin=0.01, resolution=1)


def test_stored_trials_are_the_pilot_those_of_other_seeds_are_not(tmp_path: Path) -> None:
    world, names = small_world(), ("dense", "reinit", "shuffle")
    question = Question(recipe=IMP, world=world, seeds=(0, 1, 2, 3, 4), arms=arms_of(names))
    store = Store(tmp_path / "s")
    with pytest.raises(TooFewError, match="0 are stored with every arm"):
        power_from(question, store)
    study = tb.find(IMP, world, seeds=[4, 0, 2], arms=names, store=store)
    found = power_from(question, store)
    assert found.pilot == (0, 2, 4)
    by_name = {finding.name: finding for finding in study.verdict.conditions}
    for need in found.conditions:
        assert need.observed == pytest.approx(by_name[need.name].estimate)
        assert need.n == 3
    wide = power_from(question, store, margin=0.5)
    assert wide.margin == 0.5 and wide.seeds != 0
    more = replace(question, arms=arms_of((*names, "random")))
    with pytest.raises(TooFewError):
        power_from(more, store)
