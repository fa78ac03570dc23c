"""How many seeds a rule needs, from the spread of differences in trials that are there.

    probability of passing one condition: power of the one-sided paired t test (noncentral t)
    all conditions of a rule: each is given an equal part of the probability to miss

The spread comes from few seeds and is itself uncertain, so each number has a second beside it: of
seeds needed if the spread is at its upper confidence bound. Source: Browne 1995, On the use of a
pilot sample for sample size determination, Statistics in Medicine 14:1933-1940.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean, stdev

from scipy import stats

from tombola.errors import VerdictError
from tombola.lab.question import Question, Trial
from tombola.lab.rows import rows_of, samples_of
from tombola.lab.runner import Runner
from tombola.lab.statistics import POWER, seeds_to_decide
from tombola.lab.store import Store
from tombola.lab.verdict import Matches, Rule, Samples, check_size, differences
from tombola.recipes.job import Loop
from tombola.recipes.recipe import Round

CAUTION = 0.8
"""Confidence that the true spread is below the one that `if_spread` seeds are for."""
LEAST_PILOT = 3
"""Seeds of a pilot; with fewer a spread says next to nothing."""


class TooFewError(VerdictError):
    """Fewer stored seeds than a spread can be known from."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """How many seeds one condition needs.

    Attributes:
        name: of the condition.
        margin: how much worse the ticket may be; 0 where it must be better.
        truth: the true difference that is assumed, in the ticket's favour: the one observed; where
            the ticket is to match, no difference if it looks better than the other arm.
        observed: mean difference in the pilot.
        sd: standard deviation of the differences in the pilot.
        seeds: how many in all pass the condition with `power`; None where more than 1,000 do, or
            none, since the assumed truth is on the wrong side.
        if_spread: the same if the true spread is at the upper bound at 0.8.
        n: seeds of the pilot; 0 if the arm was not trained.
    """

    name: str
    margin: float
    truth: float | None
    observed: float | None
    sd: float | None
    seeds: int | None
    if_spread: int | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Power:
    """How many seeds a rule needs.

    Attributes:
        rule: its name.
        margin: the world's, or the one asked about.
        power: probability that all conditions pass.
        pilot: the seeds whose trials were looked at.
        conditions: what each needs.
        seeds: what all of them need, and no fewer than the rule wants; None where a condition has
            none, or was not in the pilot.
        if_spread: the same if every spread is at its upper bound.
    """

    rule: str
    margin: float
    power: float
    pilot: tuple[int, ...]
    conditions: tuple[Need, ...]
    seeds: int | None
    if_spread: int | None

    def as_json(self) -> dict[str, object]:
        """The object `power` that `plan --power --json` prints."""
        return {
            "rule": self.rule,
            "margin": self.margin,
            "power": self.power,
            "pilot": list(self.pilot),
            "conditions": [asdict(need) for need in self.conditions],
            "seeds": self.seeds,
            "if_spread": self.if_spread,
        }


def power_of(
    rule: Rule,
    samples: Samples,
    *,
    margin: float,
    resolution: float,
    power: float = POWER,
    pilot: Sequence[int] = (),
) -> Power:
    """How many seeds a rule needs so that every condition passes with probability `power`.

    The truth is taken to be what was observed, but a ticket that is to match is not trusted to be
    better than the other arm: there no difference is assumed. Of k conditions each misses with
    probability (1 - power) / k at most, so that all pass with `power` however they hang together.

    Args:
        rule: for instance `MATCHING`.
        samples: as for `judge`; those of a pilot, or of any study.
        margin, resolution: as for `judge`.
        power: in (alpha, 1).
        pilot: the seeds, for the record.

    Raises:
        VerdictError: fewer than three seeds; the ticket is missing; an argument out of range.

    Example:
        >>> from tombola.lab.verdict import MATCHING
        >>> arms = {
        ...     "ticket": {"test_accuracy": [0.96, 0.97, 0.96, 0.97]},
        ...     "dense": {"test_accuracy": [0.96, 0.97, 0.97, 0.96]},
        ...     "reinit": {"test_accuracy": [0.93, 0.95, 0.94, 0.94]},
        ...     "shuffle": {"test_accuracy": [0.94, 0.94, 0.93, 0.93]},
        ... }
        >>> found = power_of(MATCHING, arms, margin=0.01, resolution=10)
        >>> [need.seeds for need in found.conditions], found.seeds
        ([9, 3, 3], 9)
    """
    if not rule.alpha < power < 1:
        raise VerdictError(
            f"power={power!r}: want a probability over the rule's alpha, {rule.alpha:g}, and under "
            f"1; {POWER} is usual."
        )
    check_size("power(margin)", margin)
    each = 1 - (1 - power) / len(rule.conditions)
    needs = tuple(
        _need(rule, place, samples, margin=margin, resolution=resolution, power=each)
        for place in range(len(rule.conditions))
    )
    return Power(
        rule=rule.name,
        margin=margin,
        power=power,
        pilot=tuple(pilot),
        conditions=needs,
        seeds=_all_of([need.seeds for need in needs], rule.least_seeds),
        if_spread=_all_of([need.if_spread for need in needs], rule.least_seeds),
    )


def _need(
    rule: Rule, place: int, samples: Samples, *, margin: float, resolution: float, power: float
) -> Need:
    condition = rule.conditions[place]
    allowed = condition.allowance(margin=margin, resolution=resolution)
    if condition.arm not in samples:
        return Need(
            name=condition.name,
            margin=allowed,
            truth=None,
            observed=None,
            sd=None,
            seeds=None,
            if_spread=None,
            n=0,
        )
    values = differences(condition, samples)
    if len(values) < LEAST_PILOT:
        raise TooFewError(
            f"power of rule {rule.name!r}: got {len(values)} seeds of {condition.name}, want "
            f"{LEAST_PILOT} or more to know a spread from."
        )
    observed, sd = mean(values), stdev(values)
    truth = min(0.0, observed) if isinstance(condition, Matches) else observed
    gap = max(0.0, truth + allowed)
    return Need(
        name=condition.name,
        margin=allowed,
        truth=truth,
        observed=observed,
        sd=sd,
        seeds=seeds_to_decide(gap, sd, rule.alpha, power),
        if_spread=seeds_to_decide(gap, widest(sd, len(values)), rule.alpha, power),
        n=len(values),
    )


def widest(sd: float, n: int, confidence: float = CAUTION) -> float:
    """Upper bound, one-sided, of the standard deviation of which `sd` was seen in n normal values.

    >>> f"{widest(1.0, 5):.3f}, {widest(1.0, 50):.3f}"
    '1.558, 1.099'
    """
    return sd * math.sqrt((n - 1) / float(stats.chi2.ppf(1 - confidence, n - 1)))


def _all_of(needs: Sequence[int | None], least: int) -> int | None:
    numbers = [seeds for seeds in needs if seeds is not None]
    return max([least, *numbers]) if len(numbers) == len(needs) else None


def power_from(
    question: Question, store: Store, *, margin: float | None = None, power: float = POWER
) -> Power:
    """The same from the trials of a question that are stored; trains nothing.

    Of the question's seeds those count whose trials are stored, all of them; an arm that the rule
    would like and the question lacks is left out.

    margin: to ask about instead of the world's, as a fraction.

    Raises:
        TooFewError: fewer than three of the seeds are stored.
        VerdictError: an argument is out of range.
    """
    of_seed: dict[int, dict[Trial, Loop[tuple[Round, ...]]]] = {seed: {} for seed in question.seeds}
    for trial, loop in question.loops().items():
        of_seed[trial.seed][trial] = loop
    rounds: dict[Trial, tuple[Round, ...]] = {}
    pilot = []
    for seed, loops in of_seed.items():
        runner = Runner(store, None)
        found = runner.drive(loops)
        if not runner.tally.run:
            rounds |= found
            pilot.append(seed)
    if len(pilot) < LEAST_PILOT:
        raise TooFewError(
            f"power of rule {question.rule.name!r}: of the seeds {list(question.seeds)} "
            f"{len(pilot)} are stored with every arm, want {LEAST_PILOT} or more as a pilot."
        )
    rows = rows_of(replace(question, seeds=tuple(pilot)), rounds)
    return power_of(
        question.rule,
        samples_of(rows, question.judged_round),
        margin=question.world.margin if margin is None else margin,
        resolution=question.world.evaluate_every or 0,
        power=power,
        pilot=pilot,
    )
