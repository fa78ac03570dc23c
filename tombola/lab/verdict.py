"""Decide, under a rule declared before training, whether a ticket wins.

A rule is data: conditions on differences between the ticket and other arms, paired by seed. To
*match* an arm is a non-inferiority test against a margin, to *beat* one a superiority test. The
answer may be that the seeds at hand cannot tell; then it says how many could.

Differences are turned so that positive is always in the ticket's favour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from tombola.errors import VerdictError
from tombola.lab.statistics import POWER, check_alpha, paired, seeds_to_decide

Samples: TypeAlias = Mapping[str, Mapping[str, Sequence[float | None]]]
"""arm -> metric -> one value per seed, in the same order in every arm; None: the trial diverged."""

Direction: TypeAlias = Literal[1, -1]
"""1 where more of a metric is better (accuracy, a fraction), -1 where less is (a stop step)."""

TICKET: Final = "ticket"
"""Name of the arm that every condition is about."""


class Outcome(Enum):
    """What a rule says of a ticket; the value is the sentence that a report prints."""

    WINS = "the ticket matches the dense network and beats every control the rule names"
    MATCHES = "the ticket matches the dense network, but is not shown to beat every control"
    LOSES = "the ticket falls short of the dense network by more than the margin"
    UNDECIDED = "too few seeds, or too varied, to say whether the ticket matches the dense network"


class Margin(Enum):
    """A margin that the world sets instead of the rule."""

    WORLD = "the difference in accuracy that the world calls negligible"
    RESOLUTION = "one evaluation interval, in steps: stop steps are not known more finely"


def _check_direction(direction: int, where: str) -> None:
    if direction not in (1, -1):
        raise VerdictError(
            f"{where}: got direction={direction!r}, want 1 where more of the metric is better or"
            " -1 where less is."
        )


def check_size(where: str, size: float) -> None:
    """Raise VerdictError unless `size` is a finite number >= 0; `where` names what it is."""
    if not (math.isfinite(size) and size >= 0):
        raise VerdictError(
            f"{where}: got {size!r}, want a finite number >= 0 in the unit of the metric; an"
            " accuracy is a fraction, one point is 0.01."
        )


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The ticket is shown to be worse than `arm` by less than a margin (non-inferiority).

    Attributes:
        name: of the condition, in reports and JSON.
        metric: key of the samples.
        arm: what the ticket is compared with; it must have been trained.
        margin: in the unit of the metric, >= 0, or who sets it.
        direction: 1 where more of the metric is better, -1 where less is.

    Raises:
        VerdictError: the margin or the direction is out of range.
    """

    name: str
    metric: str
    arm: str = "dense"
    margin: float | Margin = Margin.WORLD
    direction: Direction = 1

    def __post_init__(self) -> None:
        _check_direction(self.direction, f"Matches({self.name!r})")
        if not isinstance(self.margin, Margin):
            check_size(f"Matches({self.name!r}, margin)", self.margin)

    def allowance(self, *, margin: float, resolution: float) -> float:
        """How much worse the ticket may be, given the world's margin and resolution."""
        match self.margin:
            case Margin.WORLD:
                return float(margin)
            case Margin.RESOLUTION:
                return float(resolution)
            case own:
                return float(own)


@dataclass(frozen=True, kw_only=True)
class Beats:
    """The ticket is shown to be better than `arm` (superiority).

    Attributes:
        name: of the condition, in reports and JSON.
        metric: key of the samples.
        arm: the control; if it was not trained, the ticket is not told apart from it.
        direction: 1 where more of the metric is better, -1 where less is.

    Raises:
        VerdictError: the direction is neither 1 nor -1.
    """

    name: str
    metric: str
    arm: str
    direction: Direction = 1

    def __post_init__(self) -> None:
        _check_direction(self.direction, f"Beats({self.name!r})")

    def allowance(self, *, margin: float, resolution: float) -> float:
        """Zero: to beat is to be better by anything at all."""
        del margin, resolution
        return 0.0


Condition: TypeAlias = Matches | Beats


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What must be shown, how surely, and on how many seeds at least.

    To win every condition must pass, so they are not corrected for their number: a ticket that
    deserves to fail any one of them wins with probability alpha at most. To lose one failed
    `Matches` is enough: a ticket on the boundary of k of them loses with probability k alpha at
    most.

    Attributes:
        name: in reports, in JSON and on the command line.
        conditions: at least one of them a `Matches`, and no two of the same name.
        alpha: size of each one-sided test, in (0, 0.5).
        least_seeds: with fewer the outcome is UNDECIDED; >= 2.
        summary: one sentence for lists of rules.

    Raises:
        VerdictError: a field is out of the range given above.
    """

    name: str
    conditions: tuple[Condition, ...]
    alpha: float = 0.05
    least_seeds: int = 3
    summary: str

    def __post_init__(self) -> None:
        check_alpha(self.alpha, f"Rule({self.name!r})")
        if self.least_seeds < 2:
            raise VerdictError(
                f"Rule({self.name!r}, least_seeds={self.least_seeds!r}): want 2 or more;"
                " one seed says nothing of the spread."
            )
        names = [condition.name for condition in self.conditions]
        if len(set(names)) < len(names):
            raise VerdictError(
                f"Rule({self.name!r}): got conditions named {names}, want no name twice."
            )
        if not any(isinstance(condition, Matches) for condition in self.conditions):
            raise VerdictError(
                f"Rule({self.name!r}): got conditions {names}, want a Matches among them; without"
                " one the outcome MATCHES would claim what nothing tested."
            )


MATCHING: Final = Rule(
    name="matching",
    conditions=(
        Matches(name="matches-dense", metric="test_accuracy"),
        Beats(name="beats-reinit", metric="test_accuracy", arm="reinit"),
        Beats(name="beats-shuffle", metric="test_accuracy", arm="shuffle"),
    ),
    summary="Final test accuracy: matches dense within the world's margin, beats both controls.",
)
"""The default: final test accuracy, at the density that the world declares before training."""


def matching(metric: str, *, better: Literal["more", "less"] = "more") -> Rule:
    """The rule `matching` about another metric; the world's margin is then in its unit.

    metric: as in a study's rows: `test_mae` for a metric `mae`, `test_loss`.

    Raises:
        VerdictError: `better` is neither "more" nor "less".

    >>> [condition.direction for condition in matching("test_mae", better="less").conditions]
    [-1, -1, -1]
    """
    if better not in ("more", "less"):
        raise VerdictError(f"matching(better={better!r}): want 'more' or 'less'.")
    direction: Direction = 1 if better == "more" else -1
    return replace(
        MATCHING,
        name=f"matching-{metric}",
        conditions=tuple(
            replace(condition, metric=metric, direction=direction)
            for condition in MATCHING.conditions
        ),
        summary=f"{metric}, {better} is better: matches dense within the world's margin, beats "
        "both controls.",
    )


RULE_2019: Final = Rule(
    name="2019",
    conditions=(
        Matches(name="matches-dense", metric="stop_test_accuracy"),
        Matches(name="stops-no-later", metric="stop_step", margin=Margin.RESOLUTION, direction=-1),
        Beats(name="beats-reinit", metric="stop_test_accuracy", arm="reinit"),
    ),
    summary="Where validation loss is least: matches dense, no later than dense, beats reinit.",
)
"""The claim of the first paper: where validation loss is least, the ticket is as accurate as the
dense network and no later.

Source: arXiv:1803.03635, section 1. It can answer otherwise than `matching`: a ticket that needs
more steps to its least loss but ends as accurate matches there and loses here. Deviates: the paper
compares means; here both comparisons are tests, with a margin of one evaluation interval for the
stop step.
"""

RULES: Final[Mapping[str, Rule]] = {rule.name: rule for rule in (MATCHING, RULE_2019)}
"""The rules that the command line knows by name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the samples say of one condition.

    Attributes:
        name: of the condition.
        estimate: mean difference in the ticket's favour, in the unit of the metric; None if the
            arm was not trained.
        low, high: one-sided bounds of it, each at 1 - alpha; None with fewer than two seeds.
        margin: how much worse the ticket may be, in the same unit; 0 where it must be better.
        passed: whether `low` is above `-margin`; None if there are no bounds.
        n: number of seeds compared, diverged ones included; 0 if the arm was not trained.
    """

    name: str
    estimate: float | None
    low: float | None
    high: float | None
    margin: float
    passed: bool | None
    n: int

    @property
    def failed(self) -> bool:
        """Whether the opposite is shown: the upper bound is below `-margin`."""
        return self.high is not None and self.high < -self.margin

    @property
    def caveat(self) -> str | None:
        """What a reader of the bounds must know; None mostly."""
        if self.low is None or self.low != self.high:
            return None
        return "all differences are equal, so how far they spread is not known"

    def __str__(self) -> str:
        if self.estimate is None:
            return f"{self.name} was not tested, since that arm was not trained."
        wanted = f"wanted above {0.0 - self.margin:g}"  # 0.0 - 0.0, since -0.0 prints as -0
        if self.low is None or self.high is None:
            return f"{self.name} cannot be tested on one seed: {signed(self.estimate)}, {wanted}."
        state = "holds" if self.passed else "fails" if self.failed else "is not shown"
        bounds = f"[{signed(self.low)}, {signed(self.high)}]"
        caveat = "" if self.caveat is None else f"; {self.caveat}"
        return f"{self.name} {state}: {signed(self.estimate)} {bounds}, {wanted}{caveat}."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rule says of a ticket at one density, and why.

    Attributes:
        outcome: of the rule.
        rule: its name.
        density: fraction of the prunable weights that the ticket keeps.
        conditions: one finding for each condition of the rule, in its order.
        seeds_needed: where UNDECIDED, how many seeds in all would probably decide; None where
            decided, or where no number up to 1,000 would.
        alpha: size of each one-sided test. Not in the document (design.md 3), and so None in a
            verdict read from one under a rule that is not in `RULES`; not compared.
    """

    outcome: Outcome
    rule: str
    density: float
    conditions: tuple[Finding, ...]
    seeds_needed: int | None
    alpha: float | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, object]:
        """The object `verdict` that `find --json` prints."""
        return {
            "outcome": self.outcome.name,
            "rule": self.rule,
            "density": self.density,
            "conditions": [asdict(finding) for finding in self.conditions],
            "seeds_needed": self.seeds_needed,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Verdict":
        """The verdict whose `as_json` gave this object.

        Raises:
            VerdictError: a key is missing or unknown, or the outcome is none of the four.
        """
        try:
            known = RULES.get(document["rule"])
            return cls(
                outcome=Outcome[document["outcome"]],
                rule=document["rule"],
                density=document["density"],
                conditions=tuple(Finding(**finding) for finding in document["conditions"]),
                seeds_needed=document["seeds_needed"],
                alpha=known.alpha if known else None,
            )
        except (KeyError, TypeError) as error:
            raise VerdictError(
                f"Verdict.from_json: got {dict(document)!r}, want the object 'verdict' of"
                f" `tombola find --json`, with an outcome among"
                f" {', '.join(Outcome.__members__)} ({error!r})."
            ) from error

    def __str__(self) -> str:
        n = max(finding.n for finding in self.conditions)
        level = "the confidence of the rule" if self.alpha is None else f"{1 - self.alpha:.3g}"
        sentences = [
            f"{self.outcome.name}: {self.outcome.value}.",
            f"Rule {self.rule!r} at density {self.density:.4g}, {n} seed{'s' if n > 1 else ''};"
            f" differences in the ticket's favour, in brackets one-sided bounds at {level}:",
            *map(str, self.conditions),
        ]
        if self.outcome is Outcome.UNDECIDED:
            sentences.append(self._remedy(n))
        return " ".join(sentences)

    def _remedy(self, n: int) -> str:
        if n < 2:
            return f"One seed says nothing of the spread: train {self.seeds_needed} in all."
        given = "If the true differences and spreads are those observed,"
        if self.seeds_needed is None:
            return f"{given} no reasonable number of seeds would decide: it takes more than 1000."
        return f"{given} {self.seeds_needed} seeds in all would decide with probability {POWER}."


def judge(
    rule: Rule, samples: Samples, *, density: float, margin: float, resolution: float
) -> Verdict:
    """Apply a rule to finished trials of one density.

    A condition passes when the lower bound of the difference is above `-margin` (to match) or
    above 0 (to beat). All pass: WINS. A `Matches` is shown to fail: LOSES. All `Matches` pass but
    not every `Beats`: MATCHES. Otherwise, or with fewer seeds than the rule wants: UNDECIDED.

    A diverged trial computes nothing of use, and to leave it out would reward an arm for losing
    its bad seeds. So it counts with the worst value there is: 0 for an accuracy, and for a metric
    where less is better the largest that any arm has. A ticket that diverged does not match because
    the other arm diverged too: the other then counts with the best value that any arm has (1 where
    none has any), so that such a pair is a loss of the ticket.

    Args:
        rule: for instance `MATCHING`.
        samples: arm -> metric -> one value per seed, paired by position, None where diverged.
            Draws of a control within a seed are averaged before.
        density: of the ticket, in (0, 1].
        margin: difference in accuracy (a fraction) that the world calls negligible, >= 0.
        resolution: evaluation interval of the world in steps, >= 0.

    Raises:
        VerdictError: an argument is out of range; the ticket, or an arm it must match, was not
            trained; a metric is missing; arms differ in their number of seeds, or have none; a
            value is not finite.

    Example:
        >>> arms = {
        ...     "ticket": {"test_accuracy": [0.96, 0.97, 0.96, 0.97]},
        ...     "dense": {"test_accuracy": [0.96, 0.97, 0.97, 0.97]},
        ...     "reinit": {"test_accuracy": [0.93, 0.95, 0.94, 0.94]},
        ...     "shuffle": {"test_accuracy": [0.94, 0.94, 0.93, 0.93]},
        ... }
        >>> judge(MATCHING, arms, density=0.1122, margin=0.01, resolution=10).outcome.name
        'WINS'
    """
    check_size("judge(margin)", margin)
    check_size("judge(resolution)", resolution)
    if not 0 < density <= 1:
        raise VerdictError(f"judge(density={density!r}): want the fraction kept, in (0, 1].")
    n = _check_samples(rule, samples)
    findings = tuple(
        _finding(condition, samples, rule.alpha, margin=margin, resolution=resolution)
        for condition in rule.conditions
    )
    outcome = _outcome(rule, findings, n)
    undecided = outcome is Outcome.UNDECIDED
    return Verdict(
        outcome=outcome,
        rule=rule.name,
        density=float(density),
        conditions=findings,
        seeds_needed=_seeds_needed(rule, samples, findings) if undecided else None,
        alpha=rule.alpha,
    )


def _finding(
    condition: Condition, samples: Samples, alpha: float, *, margin: float, resolution: float
) -> Finding:
    allowed = condition.allowance(margin=margin, resolution=resolution)
    if condition.arm not in samples:
        return Finding(
            name=condition.name,
            estimate=None,
            low=None,
            high=None,
            margin=allowed,
            passed=None,
            n=0,
        )
    found = paired(differences(condition, samples), alpha)
    return Finding(
        name=condition.name,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        margin=allowed,
        passed=None if found.low is None else found.low > -allowed,
        n=found.n,
    )


def differences(condition: Condition, samples: Samples) -> list[float]:
    """Ticket against the other arm, one per seed, positive where the ticket is better.

    A trial that diverged counts as in `judge`.
    """
    metric = condition.metric
    seen = [value for arm in samples.values() for value in arm.get(metric, ()) if value is not None]
    if condition.direction > 0:
        worst, best = min([0.0, *seen]), max(seen, default=1.0)
    else:
        worst, best = max(seen, default=1.0), min(seen, default=0.0)
    differences = []
    for ticket, other in zip(samples[TICKET][metric], samples[condition.arm][metric], strict=True):
        against = (best if ticket is None else worst) if other is None else other
        differences.append(condition.direction * ((worst if ticket is None else ticket) - against))
    return differences


def _outcome(rule: Rule, findings: Sequence[Finding], n: int) -> Outcome:
    """Most severe first; too few seeds decide nothing, however clear they look."""
    matches = [
        finding
        for condition, finding in zip(rule.conditions, findings, strict=True)
        if isinstance(condition, Matches)
    ]
    if n < rule.least_seeds:
        return Outcome.UNDECIDED
    if any(finding.failed for finding in matches):
        return Outcome.LOSES
    if not all(finding.passed for finding in matches):
        return Outcome.UNDECIDED
    return Outcome.WINS if all(finding.passed for finding in findings) else Outcome.MATCHES


def _seeds_needed(rule: Rule, samples: Samples, findings: Sequence[Finding]) -> int | None:
    """The most that any open `Matches` needs, and no fewer than the rule wants.

    It is more than there are: what is open lies within the critical value of its boundary, where
    the present seeds have a power of about a half.
    """
    needed = rule.least_seeds
    for condition, finding in zip(rule.conditions, findings, strict=True):
        if isinstance(condition, Beats) or finding.passed or finding.failed:
            continue
        found = paired(differences(condition, samples), rule.alpha)
        if found.sd is None:
            continue
        # Either side of the boundary would do: inside the condition passes, outside it fails.
        gap = abs(found.estimate + finding.margin)
        seeds = seeds_to_decide(gap, found.sd, rule.alpha)
        if seeds is None:
            return None
        needed = max(needed, seeds)
    return needed


def _check_samples(rule: Rule, samples: Samples) -> int:
    """The number of seeds, once everything the rule reads is there and fits together."""
    came = ", ".join(map(repr, samples)) or "none"
    for arm in (TICKET, *(c.arm for c in rule.conditions if isinstance(c, Matches))):
        if arm not in samples:
            raise VerdictError(
                f"judge(samples): got the arms {came}, want {arm!r} too: rule {rule.name!r} cannot"
                " do without it. Train it on the same seeds, or judge under another rule."
            )
    lengths: dict[str, int] = {}
    for condition in rule.conditions:
        for arm in (TICKET, condition.arm):
            if arm in samples and condition.metric not in samples[arm]:
                raise VerdictError(
                    f"judge(samples): arm {arm!r} has the metrics"
                    f" {', '.join(map(repr, samples[arm])) or 'none'}, want {condition.metric!r}"
                    f" for condition {condition.name!r}."
                )
            if arm in samples:
                lengths[f"{arm}/{condition.metric}"] = len(samples[arm][condition.metric])
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        raise VerdictError(
            f"judge(samples): got {lengths} values, want one per seed, in the same order and"
            " number in every arm, and at least one; give a trial that diverged as None."
        )
    for arm, columns in samples.items():
        for metric in {condition.metric for condition in rule.conditions}:
            for index, value in enumerate(columns.get(metric, ())):
                if value is not None and not math.isfinite(value):
                    raise VerdictError(
                        f"judge(samples): {metric!r} of arm {arm!r} is {value!r} at position"
                        f" {index}, want a finite number; give a trial that diverged as None."
                    )
    return next(iter(lengths.values()))


def signed(value: float) -> str:
    """Three figures, but never an exponent where a count of steps is meant."""
    return f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.3g}"
