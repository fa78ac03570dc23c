"""Every outcome on constructed numbers, and what may not change a verdict."""

import json
import math
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tombola.errors import VerdictError
from tombola.lab.statistics import seeds_to_decide
from tombola.lab.verdict import (
    MATCHING,
    RULE_2019,
    RULES,
    Beats,
    Finding,
    Margin,
    Matches,
    Outcome,
    Rule,
    Samples,
    Verdict,
    judge,
)

Values = Sequence[float | None]
DENSE = [0.95, 0.96, 0.97, 0.94, 0.95]
NOISE = [0.001, -0.001, 0.002, 0.0, 0.001]


def plus(values: list[float], by: float, noise: list[float] = NOISE) -> list[float]:
    """The values moved by a constant and a little noise."""
    return [v + by + e for v, e in zip(values, noise, strict=True)]


def final(**arms: Values) -> Samples:
    return {arm: {"test_accuracy": values} for arm, values in arms.items()}


def matching(samples: Samples, *, margin: float = 0.01, rule: Rule = MATCHING) -> Verdict:
    return judge(rule, samples, density=0.1122, margin=margin, resolution=10)


def found(verdict: Verdict, name: str) -> Finding:
    (finding,) = [finding for finding in verdict.conditions if finding.name == name]
    return finding


WORSE = plus(DENSE, -0.01)[::-1]
CONTROLS = {"reinit": plus(DENSE, -0.02), "shuffle": plus(DENSE, -0.03)}
TICKET = plus(DENSE, 0.0)


def test_wins_when_every_condition_passes() -> None:
    verdict = matching(final(ticket=TICKET, dense=DENSE, **CONTROLS))
    assert verdict.outcome is Outcome.WINS
    assert [finding.name for finding in verdict.conditions] == [
        "matches-dense",
        "beats-reinit",
        "beats-shuffle",
    ]
    assert [finding.passed for finding in verdict.conditions] == [True, True, True]
    assert [finding.margin for finding in verdict.conditions] == [0.01, 0.0, 0.0]
    assert verdict.seeds_needed is None


def test_matches_when_a_control_is_not_told_apart() -> None:
    verdict = matching(
        final(ticket=TICKET, dense=DENSE, reinit=CONTROLS["reinit"], shuffle=TICKET[::-1])
    )
    assert verdict.outcome is Outcome.MATCHES
    assert found(verdict, "beats-shuffle").passed is False
    assert not found(verdict, "beats-shuffle").failed


def test_matches_when_a_control_is_better() -> None:
    verdict = matching(
        final(ticket=TICKET, dense=DENSE, reinit=CONTROLS["reinit"], shuffle=plus(DENSE, 0.02))
    )
    assert verdict.outcome is Outcome.MATCHES
    assert found(verdict, "beats-shuffle").failed


def test_matches_when_a_control_was_not_trained() -> None:
    verdict = matching(final(ticket=TICKET, dense=DENSE, reinit=CONTROLS["reinit"]))
    assert verdict.outcome is Outcome.MATCHES
    assert found(verdict, "beats-shuffle") == Finding(
        name="beats-shuffle", estimate=None, low=None, high=None, margin=0.0, passed=None, n=0
    )
    assert "beats-shuffle was not tested" in str(verdict)


def test_loses_when_shown_to_be_worse_than_the_margin() -> None:
    verdict = matching(final(ticket=plus(DENSE, -0.02), dense=DENSE, **CONTROLS))
    assert verdict.outcome is Outcome.LOSES
    assert found(verdict, "matches-dense").failed
    assert verdict.seeds_needed is None


def test_undecided_says_how_many_seeds_would_decide() -> None:
    noise = [0.015, -0.02, 0.01, -0.013, 0.009]
    verdict = matching(final(ticket=plus(DENSE, 0.0, noise), dense=DENSE, **CONTROLS))
    assert verdict.outcome is Outcome.UNDECIDED
    estimate, sd = np.mean(noise), np.std(noise, ddof=1)
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    exact = power.solve_power((estimate + 0.01) / sd, None, 0.05, 0.8, alternative="larger")
    assert verdict.seeds_needed == math.ceil(exact)


def test_undecided_below_the_boundary_counts_the_seeds_that_show_the_failure() -> None:
    noise = [-0.035, 0.0, -0.03, 0.005, -0.02]
    verdict = matching(final(ticket=plus(DENSE, 0.0, noise), dense=DENSE, **CONTROLS))
    assert verdict.outcome is Outcome.UNDECIDED
    estimate = found(verdict, "matches-dense").estimate
    assert estimate is not None
    assert estimate < -0.01
    gap = -0.01 - float(np.mean(noise))
    assert verdict.seeds_needed == seeds_to_decide(gap, float(np.std(noise, ddof=1)))
    assert f"{verdict.seeds_needed} seeds in all" in str(verdict)


def test_undecided_where_no_number_of_seeds_helps() -> None:
    # exact binary fractions whose mean lies on the boundary
    dense = [0.5] * 4
    ticket = [0.5 - 0.0625 + e for e in (0.125, -0.125, 0.25, -0.25)]
    verdict = matching(final(ticket=ticket, dense=dense), margin=0.0625)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.seeds_needed is None
    assert "no reasonable number" in str(verdict)


@pytest.mark.parametrize("shift", [0.0, -0.5])
def test_two_seeds_decide_nothing_however_clear(shift: float) -> None:
    dense = [0.95, 0.96]
    samples = final(ticket=[0.95 + shift, 0.961 + shift], dense=dense, reinit=[0.5, 0.51])
    assert matching(samples).outcome is Outcome.UNDECIDED
    assert matching(samples).seeds_needed == 3
    eager = replace(MATCHING, least_seeds=2)
    assert matching(samples, rule=eager).outcome is (Outcome.LOSES if shift else Outcome.MATCHES)


def test_seeds_needed_is_more_than_there_are() -> None:
    noise = [0.012, -0.018, 0.006, 0.012]
    samples = final(ticket=plus([0.9] * 4, 0.0, noise), dense=[0.9] * 4)
    verdict = matching(samples)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.seeds_needed is not None
    assert verdict.seeds_needed > 4
    strict = replace(MATCHING, least_seeds=40)
    assert matching(samples, rule=strict).seeds_needed == 40


def test_one_seed() -> None:
    verdict = matching(final(ticket=[0.9], dense=[0.95], reinit=[0.8], shuffle=[0.7]))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.seeds_needed == 3
    first = verdict.conditions[0]
    assert (first.low, first.high, first.passed, first.n) == (None, None, None, 1)
    assert first.estimate == pytest.approx(-0.05)
    assert "One seed says nothing of the spread: train 3 in all." in str(verdict)


@pytest.mark.parametrize(
    ("by", "outcome"),
    [(0.0, Outcome.WINS), (-0.0625, Outcome.UNDECIDED), (-0.125, Outcome.LOSES)],
)
def test_no_variance_is_exact_and_the_boundary_itself_decides_nothing(
    by: float, outcome: Outcome
) -> None:
    dense = [0.5, 0.75, 0.875]
    ticket = [v + by for v in (0.5, 0.75, 0.875)]
    low = [0.25, 0.25, 0.25]
    verdict = matching(final(ticket=ticket, dense=dense, reinit=low, shuffle=low), margin=0.0625)
    assert verdict.outcome is outcome
    first = verdict.conditions[0]
    assert first.estimate == first.low == first.high == by
    assert verdict.seeds_needed is None


def test_bounds_are_those_of_scipys_paired_test() -> None:
    verdict = matching(final(ticket=TICKET, dense=DENSE, reinit=WORSE))
    for name, other in (("matches-dense", DENSE), ("beats-reinit", WORSE)):
        finding = found(verdict, name)
        greater = stats.ttest_rel(TICKET, other, alternative="greater")
        less = stats.ttest_rel(TICKET, other, alternative="less")
        assert finding.low == pytest.approx(greater.confidence_interval(0.95).low)
        assert finding.high == pytest.approx(less.confidence_interval(0.95).high)


@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_the_alpha_of_the_rule_sets_bounds_and_seeds(alpha: float) -> None:
    noise = [0.015, -0.02, 0.01, -0.013, 0.009]
    rule = replace(MATCHING, alpha=alpha)
    verdict = matching(final(ticket=plus(DENSE, -0.005, noise), dense=DENSE), rule=rule)
    test = stats.ttest_1samp([-0.005 + e for e in noise], 0, alternative="greater")
    assert verdict.conditions[0].low == pytest.approx(test.confidence_interval(1 - alpha).low)
    gap, sd = 0.005 + float(np.mean(noise)), float(np.std(noise, ddof=1))
    assert verdict.seeds_needed == seeds_to_decide(gap, sd, alpha)


def test_passing_is_a_p_value_below_alpha() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    generator = np.random.default_rng(7)
    passes = set()
    for _ in range(60):
        ticket, dense = generator.normal([[0.945], [0.95]], 0.008, (2, 6))
        one = weightstats.DescrStatsW(ticket - dense).ttest_mean(-0.01, alternative="larger")
        verdict = matching(final(ticket=list(ticket), dense=list(dense)))
        assert verdict.conditions[0].passed is bool(one[1] < 0.05)
        passes.add(verdict.conditions[0].passed)
    assert passes == {True, False}


def test_size_and_power_of_the_whole_verdict() -> None:
    """On the boundary a ticket passes as often as alpha says; inside, as often as the power."""
    generator = np.random.default_rng(1803_03635)
    gap, sd = 0.008, 0.01
    n = seeds_to_decide(gap, sd)
    assert n == 12
    rule = Rule(name="one", conditions=MATCHING.conditions[:1], summary="matches dense")
    rates = []
    for mean in (-0.01, -0.01 + gap):
        won = 0
        for row in generator.normal(mean, sd, (1500, n)):
            samples = final(ticket=list(0.9 + row), dense=[0.9] * n)
            won += matching(samples, rule=rule).outcome is Outcome.WINS
        rates.append(won / 1500)
    # four standard errors
    assert rates[0] == pytest.approx(0.05, abs=0.0225)
    assert rates[1] == pytest.approx(0.82, abs=0.04)


def stopped(ticket: Values, dense: Values, **more: Values) -> Samples:
    """Arms of which the ticket is as accurate as dense, and which stop at the steps given."""
    accurate = {"ticket": TICKET, "dense": DENSE, "reinit": CONTROLS["reinit"]}
    steps = {"ticket": ticket, "dense": dense, "reinit": dense} | more
    return {
        arm: {
            "test_accuracy": accurate[arm],
            "stop_test_accuracy": accurate[arm],
            "stop_step": steps[arm],
        }
        for arm in accurate
    }


EARLY = [400, 420, 450, 430, 460]
LATE = [700, 690, 760, 720, 740]


def test_2019_answers_otherwise_than_matching() -> None:
    samples = stopped(LATE, EARLY)
    matches = replace(MATCHING, conditions=MATCHING.conditions[:2])
    assert matching(samples, rule=matches).outcome is Outcome.WINS
    verdict = matching(samples, rule=RULE_2019)
    assert verdict.outcome is Outcome.LOSES
    assert found(verdict, "stops-no-later").estimate == -290
    assert found(verdict, "matches-dense").passed


def test_2019_wins_when_the_ticket_stops_earlier() -> None:
    verdict = matching(stopped(EARLY, LATE), rule=RULE_2019)
    assert verdict.outcome is Outcome.WINS
    assert found(verdict, "stops-no-later").estimate == 290


def test_2019_asks_for_the_seeds_of_its_hardest_open_condition() -> None:
    gains = [60.0, -40.0, 50.0, -20.0, 10.0]
    samples = stopped([step - gain for step, gain in zip(EARLY, gains, strict=True)], EARLY)
    clock = seeds_to_decide(12 + 10, float(np.std(gains, ddof=1)))
    verdict = matching(samples, rule=RULE_2019)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.seeds_needed == clock
    noise = [0.03, -0.035, 0.02, -0.035, 0.015]
    samples["ticket"]["stop_test_accuracy"] = plus(DENSE, 0.0, noise)  # type: ignore[index]
    harder = seeds_to_decide(0.01 + float(np.mean(noise)), float(np.std(noise, ddof=1)))
    assert clock is not None
    assert harder is not None
    assert harder > clock
    assert matching(samples, rule=RULE_2019).seeds_needed == harder


@pytest.mark.parametrize(("resolution", "passed"), [(10, True), (4, False)])
def test_the_clock_is_not_read_more_finely_than_it_ticks(resolution: float, passed: bool) -> None:
    later = [405, 424, 456, 435, 464]
    samples = stopped(later, EARLY)
    verdict = judge(RULE_2019, samples, density=0.2, margin=0.01, resolution=resolution)
    finding = found(verdict, "stops-no-later")
    assert finding.margin == resolution
    assert finding.passed is passed


def test_margins_of_the_world_the_clock_and_the_rule() -> None:
    both = {"margin": 0.01, "resolution": 10}
    assert Matches(name="a", metric="m").allowance(**both) == 0.01
    assert Matches(name="a", metric="m", margin=Margin.RESOLUTION).allowance(**both) == 10
    assert Matches(name="a", metric="m", margin=0.5).allowance(**both) == 0.5
    assert Beats(name="a", metric="m", arm="reinit").allowance(**both) == 0.0


def test_a_diverged_trial_counts_as_no_accuracy() -> None:
    missing: Values = [*TICKET[:4], None]
    verdict = matching(final(ticket=missing, dense=DENSE, **CONTROLS))
    assert verdict == matching(final(ticket=[*TICKET[:4], 0.0], dense=DENSE, **CONTROLS))
    assert found(verdict, "matches-dense").n == 5
    assert verdict.outcome is not Outcome.WINS


def test_a_ticket_that_always_diverges_loses() -> None:
    verdict = matching(final(ticket=[None] * 5, dense=DENSE, **CONTROLS))
    assert verdict.outcome is Outcome.LOSES


def test_a_diverged_control_is_beaten_by_as_much_as_can_be() -> None:
    verdict = matching(final(ticket=TICKET, dense=DENSE, reinit=[None] * 5))
    assert found(verdict, "beats-reinit").estimate == pytest.approx(np.mean(TICKET))


def test_a_ticket_that_diverged_does_not_match_a_dense_network_that_did() -> None:
    verdict = matching(final(ticket=[None] * 3, dense=[None] * 3))
    assert found(verdict, "matches-dense").estimate == -1.0
    assert verdict.outcome is Outcome.LOSES
    clock = matching(
        {
            arm: {"stop_step": [None] * 3, "stop_test_accuracy": [None] * 3}
            for arm in ("ticket", "dense")
        },
        rule=RULE_2019,
    )
    assert found(clock, "stops-no-later").estimate == -1.0


def test_a_diverged_trial_stops_as_late_as_any_arm_did() -> None:
    slowest: Values = [900, 800, 1990, 800, 900]  # of an arm that the condition does not read
    missing: Values = [*EARLY[:4], None]
    finding = found(
        matching(stopped(missing, EARLY, reinit=slowest), rule=RULE_2019), "stops-no-later"
    )
    assert finding.estimate == (460 - 1990) / 5


def test_the_document_is_that_of_the_design() -> None:
    verdict = matching(final(ticket=TICKET, dense=DENSE, reinit=CONTROLS["reinit"]))
    document = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    assert list(document) == ["outcome", "rule", "density", "conditions", "seeds_needed"]
    assert document["outcome"] == "MATCHES"
    assert document["rule"] == "matching"
    assert document["density"] == 0.1122
    assert [list(condition) for condition in document["conditions"]] == [
        ["name", "estimate", "low", "high", "margin", "passed", "n"]
    ] * 3
    assert Verdict.from_json(document) == verdict
    assert str(Verdict.from_json(document)) == str(verdict)


def test_a_verdict_of_numpy_values_is_json() -> None:
    samples = final(ticket=list(np.array(TICKET)), dense=list(np.array(DENSE)))
    verdict = judge(
        MATCHING,
        samples,
        density=np.float64(0.5),
        margin=np.float64(0.01),
        resolution=np.float64(10),
    )
    assert Verdict.from_json(json.loads(json.dumps(verdict.as_json()))) == verdict


def test_a_verdict_read_back_does_not_invent_a_confidence() -> None:
    own = replace(MATCHING, name="own", alpha=0.01)
    verdict = matching(final(ticket=TICKET, dense=DENSE, **CONTROLS), rule=own)
    assert "bounds at 0.99" in str(verdict)
    again = Verdict.from_json(verdict.as_json())
    assert again == verdict
    assert "bounds at the confidence of the rule" in str(again)


def test_the_paragraph() -> None:
    dense = [0.5, 0.75, 0.875]
    low = [0.25, 0.5, 0.625]
    samples = final(ticket=dense, dense=dense, reinit=low, shuffle=dense)
    equal = "; all differences are equal, so how far they spread is not known."
    assert str(matching(samples)) == (
        "MATCHES: the ticket matches the dense network, but is not shown to beat every control."
        " Rule 'matching' at density 0.1122, 3 seeds; differences in the ticket's favour,"
        " in brackets one-sided bounds at 0.95:"
        f" matches-dense holds: +0 [+0, +0], wanted above -0.01{equal}"
        f" beats-reinit holds: +0.25 [+0.25, +0.25], wanted above 0{equal}"
        f" beats-shuffle is not shown: +0 [+0, +0], wanted above 0{equal}"
    )
    spread = final(ticket=[0.5, 0.75, 0.9], dense=dense, reinit=low, shuffle=dense)
    assert "all differences are equal" not in str(matching(spread))
    lost = str(matching(stopped(LATE, EARLY), rule=RULE_2019))
    assert "stops-no-later fails: -290 [" in lost
    longer = matching(stopped([step + 12_345 for step in EARLY], EARLY), rule=RULE_2019)
    assert (
        "stops-no-later fails: -12345 [-12345, -12345], wanted above -10; all differences are equal"
        in str(longer)
    )


def test_rules_are_found_by_name_and_frozen() -> None:
    assert {name: rule.name for name, rule in RULES.items()} == {
        "matching": "matching",
        "2019": "2019",
    }
    with pytest.raises(FrozenInstanceError):
        MATCHING.alpha = 0.2  # type: ignore[misc]


NAN = float("nan")
GOOD = final(ticket=TICKET, dense=DENSE)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({}, ["arms none", "'ticket'", "Train it"]),
        (final(dense=DENSE), ["'dense'", "want 'ticket' too"]),
        (final(ticket=TICKET, reinit=DENSE), ["'ticket', 'reinit'", "want 'dense' too"]),
        (final(ticket=[], dense=[]), ["'ticket/test_accuracy': 0", "at least one"]),
        (final(ticket=TICKET, dense=DENSE[:4]), ["'dense/test_accuracy': 4", "same order"]),
        (final(ticket=TICKET, dense=DENSE, reinit=[]), ["'reinit/test_accuracy': 0"]),
        (final(ticket=[*TICKET[:4], NAN], dense=DENSE), ["'ticket' is nan at position 4", "None"]),
        (final(ticket=TICKET, dense=DENSE, odd=[math.inf]), ["'odd' is inf at position 0"]),
        (
            {**GOOD, "dense": {"test_loss": DENSE}},
            ["'dense' has the metrics 'test_loss'", "'test_accuracy'"],
        ),
    ],
)
def test_samples_that_do_not_fit_are_named(samples: Samples, said: list[str]) -> None:
    with pytest.raises(VerdictError) as caught:
        matching(samples)
    for part in said:
        assert part in str(caught.value)


def test_an_arm_the_rule_does_not_read_may_have_its_own_number_of_seeds() -> None:
    assert matching({**GOOD, "random": {"test_accuracy": [0.5]}}) == matching(GOOD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"margin": -0.01}, ["judge(margin)", "-0.01", ">= 0", "fraction"]),
        ({"margin": NAN}, ["judge(margin)", "nan"]),
        ({"margin": math.inf}, ["judge(margin)", "inf"]),
        ({"resolution": -1}, ["judge(resolution)", "-1"]),
        ({"density": 0.0}, ["density=0.0", "(0, 1]"]),
        ({"density": 11.2}, ["density=11.2", "(0, 1]"]),
        ({"density": NAN}, ["density=nan"]),
    ],
)
def test_arguments_out_of_range_are_named(change: dict[str, float], said: list[str]) -> None:
    with pytest.raises(VerdictError) as caught:
        judge(MATCHING, GOOD, **{"density": 0.5, "margin": 0.01, "resolution": 10.0} | change)
    for part in said:
        assert part in str(caught.value)


BEATS = Beats(name="b", metric="m", arm="reinit")
MATCH = Matches(name="a", metric="m")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replace(MATCHING, alpha=0.95), ["Rule('matching')", "alpha=0.95", "(0, 0.5)"]),
        (lambda: replace(MATCHING, alpha=0.0), ["alpha=0.0"]),
        (lambda: replace(MATCHING, alpha=NAN), ["alpha=nan"]),
        (lambda: replace(MATCHING, least_seeds=1), ["least_seeds=1", "2 or more"]),
        (lambda: replace(MATCHING, conditions=(MATCH, MATCH)), ["['a', 'a']", "twice"]),
        (lambda: replace(MATCHING, conditions=(BEATS,)), ["['b']", "want a Matches"]),
        (lambda: replace(MATCHING, conditions=()), ["want a Matches"]),
        (lambda: replace(MATCH, margin=-1.0), ["Matches('a', margin)", "-1.0"]),
        (lambda: replace(MATCH, margin=NAN), ["nan"]),
        (
            lambda: replace(MATCH, direction=0),  # type: ignore[arg-type]
            ["Matches('a')", "direction=0", "less is"],
        ),
        (
            lambda: replace(BEATS, direction=2),  # type: ignore[arg-type]
            ["Beats('b')", "direction=2"],
        ),
        (lambda: Verdict.from_json({"rule": "x"}), ["{'rule': 'x'}", "KeyError('outcome')"]),
        (
            lambda: Verdict.from_json(matching(GOOD).as_json() | {"outcome": "DRAWS"}),
            ["DRAWS", "WINS, MATCHES, LOSES, UNDECIDED"],
        ),
        (
            lambda: Verdict.from_json(matching(GOOD).as_json() | {"conditions": [{"p": 1}]}),
            ["unexpected keyword argument 'p'"],
        ),
    ],
)
def test_rules_and_documents_that_cannot_be_are_named(make, said) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(VerdictError) as caught:
        make()
    for part in said:
        assert part in str(caught.value)


# Binary fractions, so that sums and shifts are exact and equality can be asked for.
fractions = st.integers(0, 1024).map(lambda number: number / 1024)
seeds = st.integers(2, 8)
arms = seeds.flatmap(
    lambda n: st.fixed_dictionaries(
        {
            arm: st.lists(fractions, min_size=n, max_size=n)
            for arm in ("ticket", "dense", "reinit", "shuffle")
        }
    )
)
margins = st.integers(0, 256).map(lambda number: number / 1024)


@settings(derandomize=True, deadline=None)
@given(arms, margins, st.integers(-512, 512))
def test_adding_a_constant_to_every_arm_changes_nothing(
    values: dict[str, list[float]], margin: float, shift: int
) -> None:
    moved = {arm: [v + shift / 1024 for v in row] for arm, row in values.items()}
    before, after = (matching(final(**each), margin=margin) for each in (values, moved))
    assert before == after


@settings(derandomize=True, deadline=None)
@given(arms, margins, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_changes_nothing(values, margin, random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(values["ticket"])))
    random.shuffle(order)
    shuffled = {arm: [row[index] for index in order] for arm, row in values.items()}
    assert matching(final(**shuffled), margin=margin) == matching(final(**values), margin=margin)


@settings(derandomize=True, deadline=None)
@given(arms, margins)
def test_changing_places_mirrors_the_bounds(values: dict[str, list[float]], margin: float) -> None:
    ours = matching(final(**values), margin=margin).conditions[0]
    theirs = matching(
        final(ticket=values["dense"], dense=values["ticket"]), margin=margin
    ).conditions[0]
    assert ours.estimate == -theirs.estimate  # type: ignore[operator]
    assert (ours.low, ours.high) == (-theirs.high, -theirs.low)  # type: ignore[operator]


@settings(derandomize=True, deadline=None)
@given(arms, margins)
def test_less_is_better_mirrors_more_is_better(
    values: dict[str, list[float]], margin: float
) -> None:
    more = Rule(name="r", conditions=(Matches(name="a", metric="test_accuracy"),), summary="")
    less = replace(more, conditions=(replace(MATCH, metric="test_accuracy", direction=-1),))
    negated = {arm: [-v for v in row] for arm, row in values.items()}
    assert matching(final(**values), margin=margin, rule=more) == matching(
        final(**negated), margin=margin, rule=less
    )


ORDER = {Outcome.LOSES: 0, Outcome.UNDECIDED: 1, Outcome.MATCHES: 2, Outcome.WINS: 2}


@settings(derandomize=True, deadline=None)
@given(arms, margins, margins)
def test_a_wider_margin_never_turns_a_pass_into_a_fail(
    values: dict[str, list[float]], margin: float, wider: float
) -> None:
    narrow = matching(final(**values), margin=margin)
    wide = matching(final(**values), margin=margin + wider)
    assert wide.conditions[0].passed or not narrow.conditions[0].passed
    assert narrow.conditions[0].failed or not wide.conditions[0].failed
    assert wide.conditions[1:] == narrow.conditions[1:]
    assert ORDER[wide.outcome] >= ORDER[narrow.outcome]


@settings(derandomize=True, deadline=None)
@given(arms, margins)
def test_an_outcome_says_what_its_conditions_say(
    values: dict[str, list[float]], margin: float
) -> None:
    verdict = matching(final(**values), margin=margin)
    dense, *controls = verdict.conditions
    enough = dense.n >= MATCHING.least_seeds
    beaten = all(control.passed for control in controls)
    assert (verdict.outcome is Outcome.WINS) == bool(enough and dense.passed and beaten)
    assert (verdict.outcome is Outcome.MATCHES) == bool(enough and dense.passed and not beaten)
    assert (verdict.outcome is Outcome.LOSES) == (enough and dense.failed)
    if verdict.seeds_needed is not None:
        assert verdict.outcome is Outcome.UNDECIDED
        assert verdict.seeds_needed > dense.n
