"""At which densities a rule holds: both corrections against slow twins and simulated families."""

from collections.abc import Sequence

import numpy as np
import pytest

from tombola.errors import VerdictError
from tombola.lab.ladder import LADDERS, Correction, Ladder, LadderVerdict, judge_ladder
from tombola.lab.statistics import chance, paired
from tombola.lab.verdict import Samples

DENSE = [0.95, 0.96, 0.97, 0.94, 0.95]
NOISE = [0.002, -0.003, 0.004, 0.0, -0.001]


def rung(by: float, noise: Sequence[float] = NOISE, **more: Sequence[float]) -> Samples:
    ticket = [value + by + e for value, e in zip(DENSE, noise, strict=True)]
    arms = {"ticket": ticket, "dense": DENSE, **more}
    return {arm: {"test_accuracy": list(values)} for arm, values in arms.items()}


def asked(name: str, *rungs: Samples) -> LadderVerdict:
    rounds = {at + 1: (0.8 ** (at + 1), one) for at, one in enumerate(rungs)}
    return judge_ladder(LADDERS[name], rounds, margin=0.01, resolution=10)


@pytest.mark.parametrize("boundary", [-0.01, 0.0, 0.001])
def test_a_chance_is_below_alpha_just_where_the_bound_is_above_the_boundary(
    boundary: float,
) -> None:
    for alpha in (0.01, 0.05, 0.2):
        for shift in np.linspace(-0.02, 0.02, 41):
            values = [float(shift) + e for e in NOISE]
            low, p = paired(values, alpha).low, chance(values, boundary)
            assert low is not None and p is not None
            assert (low > boundary) == (p < alpha)


def test_a_sequence_ends_at_the_first_density_that_does_not_pass() -> None:
    verdict = asked("densities", rung(0.0), rung(-0.012), rung(0.0))
    assert [one.holds for one in verdict.rungs] == [True, False, False]
    assert verdict.densities == (0.8,)
    assert verdict.rungs[2].chance == verdict.rungs[0].chance


def test_holm_goes_on_but_asks_for_more() -> None:
    verdict = asked("densities-holm", rung(0.0), rung(-0.012), rung(0.0))
    assert [one.holds for one in verdict.rungs] == [True, False, True]
    first = verdict.rungs[0]
    assert first.chance is not None
    assert first.adjusted == pytest.approx(3 * first.chance)
    near = rung(-0.0065)
    (alone,) = asked("densities-holm", near).rungs
    assert alone.holds is True
    assert not any(one.holds for one in asked("densities-holm", *[near] * 8).rungs)
    assert all(one.holds for one in asked("densities", *[near] * 8).rungs)


@pytest.mark.parametrize("name", ["densities", "densities-holm"])
def test_a_family_makes_a_false_claim_as_rarely_as_promised(name: str) -> None:
    """Five densities on the boundary: some claim is made in five of a hundred families at most."""
    rng, families = np.random.default_rng(3), 150
    wrong = sum(
        bool(asked(name, *(rung(-0.01, rng.normal(0, 0.004, 5)) for _ in range(5))).densities)
        for _ in range(families)
    )
    assert wrong / families < 0.1  # .05, sd .018


def test_a_density_counts_if_every_condition_passes_and_its_arms_were_trained() -> None:
    worse = [value - 0.03 + e for value, e in zip(DENSE, NOISE[::-1], strict=True)]
    whole = rung(0.0, reinit=worse, shuffle=worse)
    beaten = rung(0.0, reinit=worse, shuffle=DENSE)
    verdict = asked("winning-densities", whole, rung(0.0), beaten)
    assert [one.holds for one in verdict.rungs] == [True, False]
    assert verdict.left_out == (0.8**2,)
    assert "Not asked at 0.64" in str(verdict)


def test_two_seeds_claim_nothing() -> None:
    few = {arm: {"test_accuracy": of["test_accuracy"][:2]} for arm, of in rung(0.0).items()}
    verdict = asked("densities", few)
    assert verdict.rungs[0].holds is None
    assert verdict.densities == ()
    assert "too few seeds" in str(verdict)


def test_order_of_rounds_given_does_not_matter() -> None:
    rounds = {2: (0.64, rung(-0.012)), 1: (0.8, rung(0.0))}
    verdict = judge_ladder(LADDERS["densities"], rounds, margin=0.01, resolution=1)
    assert [one.density for one in verdict.rungs] == [0.8, 0.64]


def test_no_density_with_every_arm() -> None:
    with pytest.raises(VerdictError, match=r"asks about the arms .*'shuffle'.*--controls-at all"):
        asked("winning-densities", rung(0.0))


def test_a_ladder_of_ones_own() -> None:
    own = Ladder(
        name="own",
        rule=LADDERS["densities"].rule,
        correction=Correction.HOLM,
        summary="mine",
    )
    verdict = judge_ladder(own, {1: (0.5, rung(0.0))}, margin=0.01, resolution=1)
    assert verdict.as_json()["correction"] == "holm"
