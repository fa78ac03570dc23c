"""Intervals, bounds, power and Holm against scipy, statsmodels and a simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tombola.errors import VerdictError
from tombola.lab.statistics import holm, paired, seeds_to_decide, summarise

DIFFERENCES = [0.011, -0.004, 0.007, 0.0, 0.013, 0.002]


def test_summarise_is_the_t_interval_of_what_did_not_diverge() -> None:
    kept = [0.9, 0.94, 0.95, 0.97]
    summary = summarise([0.9, None, 0.94, 0.95, None, 0.97], confidence=0.9)
    expected = stats.ttest_1samp(kept, 0).confidence_interval(0.9)
    assert summary.mean == pytest.approx(0.94)
    assert summary.low == pytest.approx(expected.low)
    assert summary.high == pytest.approx(expected.high)
    assert summary.as_json() == {
        "mean": summary.mean,
        "low": summary.low,
        "high": summary.high,
        "values": [0.9, None, 0.94, 0.95, None, 0.97],
    }


@pytest.mark.parametrize(
    ("values", "mean", "bound"),
    [
        ([], None, None),
        ([None, None], None, None),
        ([0.5, None], 0.5, None),
        ([0.1] * 49, 0.1, 0.1),
    ],
)
def test_summarise_without_a_spread(
    values: list[float | None], mean: float | None, bound: float | None
) -> None:
    summary = summarise(values)
    assert (summary.mean, summary.low, summary.high) == (mean, bound, bound)
    assert summary.values == tuple(values)


def test_summarise_gives_python_floats() -> None:
    summary = summarise(np.array([0.5, 0.75]))  # type: ignore[arg-type]
    assert all(type(value) is float for value in (summary.mean, summary.low, *summary.values))


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.3])
def test_paired_bounds_are_those_of_the_one_sided_tests(alpha: float) -> None:
    found = paired(DIFFERENCES, alpha)
    greater = stats.ttest_1samp(DIFFERENCES, 0, alternative="greater")
    less = stats.ttest_1samp(DIFFERENCES, 0, alternative="less")
    assert found.estimate == pytest.approx(np.mean(DIFFERENCES))
    assert found.sd == pytest.approx(np.std(DIFFERENCES, ddof=1))
    assert found.low == pytest.approx(greater.confidence_interval(1 - alpha).low)
    assert found.high == pytest.approx(less.confidence_interval(1 - alpha).high)
    assert found.n == 6


def test_paired_agrees_with_the_paired_test_of_two_arms() -> None:
    ticket, other = np.random.default_rng(0).normal([[0.01], [0.0]], 0.01, (2, 7))
    low = paired(list(ticket - other)).low
    assert low is not None
    # the bound is where the test of size .05 has a p-value of exactly .05
    shifted = stats.ttest_rel(ticket - low, other, alternative="greater")
    assert shifted.pvalue == pytest.approx(0.05)


def test_paired_agrees_with_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    expected = weightstats.DescrStatsW(DIFFERENCES).tconfint_mean(alpha=0.1)
    found = paired(DIFFERENCES, alpha=0.05)
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 3, 49])
def test_paired_without_variance_is_exact(n: int) -> None:
    # the sum of 49 floats .1 over 49 is not .1
    found = paired([0.1] * n)
    assert (found.estimate, found.low, found.high, found.sd) == (0.1, 0.1, 0.1, 0.0)


def test_paired_of_one_has_no_bounds() -> None:
    found = paired([0.25])
    assert (found.estimate, found.low, found.high, found.sd, found.n) == (0.25, None, None, None, 1)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(-1024, 1024), min_size=2, max_size=12), st.sampled_from([0.01, 0.05]))
def test_paired_mirrors_and_ignores_order(numbers: list[int], alpha: float) -> None:
    found = paired(numbers, alpha)
    mirrored = paired([-number for number in reversed(numbers)], alpha)
    assert found.low is not None
    assert found.high is not None
    assert (mirrored.estimate, mirrored.low, mirrored.high, mirrored.sd) == (
        -found.estimate,
        -found.high,
        -found.low,
        found.sd,
    )
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize("effect", [0.1, 0.25, 0.6, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_seeds_to_decide_is_the_smallest_with_that_power(
    effect: float, alpha: float, power: float
) -> None:
    oracle = pytest.importorskip("statsmodels.stats.power").TTestPower()
    seeds = seeds_to_decide(effect * 0.01, 0.01, alpha=alpha, power=power, most=5000)
    assert seeds is not None

    def power_of(n: int) -> float:
        return float(oracle.power(effect, n, alpha, alternative="larger"))

    assert power_of(seeds) >= power
    assert seeds == 2 or power_of(seeds - 1) < power


def test_seeds_to_decide_against_a_simulation() -> None:
    # non-inferiority: truth .004 below, margin .01, so .006 inside the boundary
    seeds = seeds_to_decide(0.01 - 0.004, 0.0075)
    assert seeds == 12
    generator = np.random.default_rng(2019)
    rejected = []
    for n in (seeds - 1, seeds):
        draws = generator.normal(-0.004, 0.0075, (40_000, n))
        rejected.append(
            np.mean(stats.ttest_1samp(draws, -0.01, axis=1, alternative="greater")[1] < 0.05)
        )
    # the standard error of each is .002, and a seed is worth .025 of power here
    assert rejected[0] < 0.8 - 0.004
    assert rejected[1] > 0.8 + 0.004


def test_seeds_to_decide_at_the_edges() -> None:
    assert seeds_to_decide(0.01, 0.0) == 2
    assert seeds_to_decide(0.01, 0.0, least=3) == 3
    assert seeds_to_decide(0.0, 0.01) is None
    assert seeds_to_decide(0.0, 0.0) is None
    assert seeds_to_decide(0.01, 0.01, least=30, most=20) is None
    assert seeds_to_decide(1e-9, 0.01) is None
    # a spread that is only rounding error; scipy's noncentral t gives NaN out there
    assert seeds_to_decide(0.01, 1e-18) == 2
    assert seeds_to_decide(1e300, 1e-300) == 2
    exact = seeds_to_decide(0.005, 0.01)
    assert exact is not None
    assert seeds_to_decide(0.005, 0.01, most=exact) == exact
    assert seeds_to_decide(0.005, 0.01, most=exact - 1) is None
    assert seeds_to_decide(0.005, 0.01, least=exact + 5) == exact + 5


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.floats(0.05, 20), st.floats(1, 3), st.sampled_from([0.01, 0.05, 0.2]))
def test_seeds_to_decide_falls_with_the_gap(effect: float, factor: float, alpha: float) -> None:
    near = seeds_to_decide(effect, 1.0, alpha=alpha) or math.inf
    far = seeds_to_decide(effect * factor, 1.0, alpha=alpha) or math.inf
    assert far <= near


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .2: times 4, 3, 2, 1 gives .04 .06 .06 .2
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx((0.06, 0.04, 0.2, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_against_statsmodels(p_values: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    expected = multitest.multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(tuple(expected))


NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: summarise([0.5, NAN]), ["summarise(values)", "number 1 is nan", "None"]),
        (lambda: summarise([0.5], confidence=95), ["confidence=95", "(0, 1)"]),
        (lambda: summarise([0.5], confidence=NAN), ["confidence=nan", "(0, 1)"]),
        (lambda: paired([]), ["got none", "at least one"]),
        (lambda: paired([math.inf]), ["number 0 is inf", "None"]),
        (lambda: paired([0.1], alpha=0.95), ["paired(alpha=0.95)", "(0, 0.5)", "alpha=0.05"]),
        (lambda: paired([0.1], alpha=0.0), ["alpha=0.0"]),
        (lambda: paired([0.1], alpha=NAN), ["alpha=nan"]),
        (lambda: seeds_to_decide(-0.1, 1), ["gap=-0.1", ">= 0", "without its sign"]),
        (lambda: seeds_to_decide(NAN, 1), ["gap=nan"]),
        (lambda: seeds_to_decide(1, math.inf), ["sd=inf"]),
        (lambda: seeds_to_decide(1, 1, alpha=0.5), ["seeds_to_decide(alpha=0.5)"]),
        (lambda: seeds_to_decide(1, 1, power=0.05), ["power=0.05", "(0.05, 1)"]),
        (lambda: seeds_to_decide(1, 1, power=1.0), ["power=1.0"]),
        (lambda: seeds_to_decide(1, 1, least=1), ["least=1", "2 or more"]),
        (lambda: holm([0.5, 1.5]), ["got 1.5", "[0, 1]"]),
        (lambda: holm([NAN]), ["got nan"]),
    ],
)
def test_mistakes_are_named(call, said) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(VerdictError) as caught:
        call()
    for part in said:
        assert part in str(caught.value)
