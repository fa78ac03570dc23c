"""The strict definition of a winning ticket: judged over learning rates and lengths of training.

A ticket often beats a dense network that was trained badly. Here it has to stand beside the dense
network as well trained as any, beside fresh initial values at any learning rate, and beside a small
dense network at any. A definition is data; `judge_strictly` is a pure function of it and of a table
of accuracies.

Source: Ma, Yuan et al. 2021, Sanity Checks for Lottery Tickets (arXiv 2107.00166).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from statistics import mean, stdev
from typing import Final

from tombola.errors import VerdictError
from tombola.lab.statistics import POWER, check_alpha, paired, seeds_to_decide
from tombola.lab.verdict import (
    TICKET,
    Beats,
    Finding,
    Margin,
    Samples,
    check_size,
    differences,
    signed,
)

DENSE: Final = "dense"
REINIT: Final = "reinit"
THIN: Final = "thin"
NEEDED: Final = (TICKET, DENSE, REINIT, THIN)
"""The arms without which the definition says nothing."""

ROUNDING = 1e-9  # means on a threshold are on it: .923 - .918 is above .005 in binary


class Prize(Enum):
    """What the definition says of a ticket; the value is the sentence that is printed."""

    JACKPOT = "the ticket is as good as the dense network at its best, and beats its controls"
    SECONDARY = (
        "the ticket beats its controls and matches the dense network at the same learning rate, "
        "not at its best"
    )
    NONE = "the ticket fails a condition of both prizes"
    UNDECIDED = "too few seeds, or too varied, to say which conditions hold"


@dataclass(frozen=True, kw_only=True)
class Strict:
    """The strict definition, with the thresholds of a data set.

    Attributes:
        name: on the command line and in documents.
        similar: how much worse counts as similar, a fraction; `Margin.WORLD`: the world's margin.
        clear: a gap must be larger than this to count as clear, a fraction.
        most_density: a ticket that keeps more of the weights is a trivial one.
        metric: key of the samples.
        alpha: size of each one-sided test, in (0, 0.5). None: compare means, as the paper does; so
            published tables, which have no seeds, can be judged.
        least_seeds: with fewer the outcome is UNDECIDED.
        least_rates: with fewer learning rates it is not asked.
        controls: arms that are compared besides, where they were trained; no prize hangs on them.
        summary: one sentence for lists of rules.

    Raises:
        VerdictError: a field is out of range.
    """

    name: str
    similar: float | Margin = Margin.WORLD
    clear: float = 0.005
    most_density: float = 0.4
    metric: str = "test_accuracy"
    alpha: float | None = 0.05
    least_seeds: int = 3
    least_rates: int = 3
    controls: tuple[str, ...] = ("random", "oneshot", "half-width")
    summary: str

    def __post_init__(self) -> None:
        where = f"Strict({self.name!r}"
        if self.alpha is not None:
            check_alpha(self.alpha, f"{where})")
        if not isinstance(self.similar, Margin):
            check_size(f"{where}, similar)", self.similar)
        elif self.similar is not Margin.WORLD:
            raise VerdictError(f"{where}, similar={self.similar}): want a number or Margin.WORLD.")
        check_size(f"{where}, clear)", self.clear)
        if not 0 < self.most_density <= 1:
            raise VerdictError(f"{where}, most_density={self.most_density!r}): want (0, 1].")
        for name in ("least_seeds", "least_rates"):
            if getattr(self, name) < 1:
                raise VerdictError(f"{where}, {name}={getattr(self, name)!r}): want 1 or more.")


def _published(name: str, data: str, similar: float) -> Strict:
    return Strict(
        name=name,
        similar=similar,
        summary=f"The strict definition of 2021 over learning rates; on {data} similar is within "
        f"{100 * similar:g} points, clear over 0.5.",
    )


STRICT: Final = Strict(
    name="strict",
    summary="The strict definition of 2021 over learning rates; similar is within the world's "
    "margin, clear over 0.5 points.",
)
STRICTS: Final = {
    one.name: one
    for one in (
        STRICT,
        _published("strict-cifar10", "CIFAR-10", 0.005),
        _published("strict-cifar100", "CIFAR-100", 0.01),
        _published("strict-tiny-imagenet", "Tiny-ImageNet", 0.01),
        _published("strict-imagenet", "ImageNet-1K", 0.015),
    )
}
"""The definitions that the command line knows by name."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was trained at one learning rate and one length.

    rate: the learning rate. steps: length of one training; any unit, the same in all cells.
    samples: arm -> metric -> one value per seed, as for `judge`, of the same seeds in
        every cell.
    """

    rate: float
    steps: float
    samples: Samples

    def __str__(self) -> str:
        return f"rate {self.rate:g}, {self.steps:g} steps"


@dataclass(frozen=True, kw_only=True)
class StrictFinding:
    """What the table says of one condition.

    finding: estimate and bounds of the difference in the ticket's favour, at the best learning rate
    of the ticket against the best of the other arm. at, against: the cells of the estimate. sd:
    standard deviation of the differences between those two; None for one seed.
    """

    finding: Finding
    at: str
    against: str
    sd: float | None

    def __str__(self) -> str:
        found = self.finding
        wanted = f"wanted {'over' if found.margin < 0 else 'at least'} {0.0 - found.margin:+g}"
        state = "holds" if found.passed else "fails" if self.failed else "is not shown"
        bounds = ""
        if found.low is not None and found.high is not None:
            bounds = f" [{signed(found.low)}, {signed(found.high)}]"
        where = f"{self.at} against {self.against}"
        return f"{found.name} {state}: {signed(found.estimate or 0.0)}{bounds}, {wanted} ({where})."

    @property
    def failed(self) -> bool:
        """Whether the opposite is shown; by means, whether it does not pass."""
        return self.finding.failed or (self.finding.high is None and self.finding.passed is False)


@dataclass(frozen=True, kw_only=True)
class StrictVerdict:
    """What the definition says of a ticket at one density, and why.

    Attributes:
        outcome: the prize.
        rule: name of the definition.
        density: fraction of the prunable weights that the ticket keeps.
        sparse_enough: whether it is no trivial one.
        steps: length at which tickets were judged.
        rates: the learning rates tried at that length, rising.
        conditions: one for each condition that could be asked, in the paper's order.
        controls: of the arms that no prize hangs on.
        seeds_needed: where UNDECIDED, how many in all would probably decide; else None.
        alpha: size of each test before it is divided among the cells; None where means decided.
    """

    outcome: Prize
    rule: str
    density: float
    sparse_enough: bool
    steps: float
    rates: tuple[float, ...]
    conditions: tuple[StrictFinding, ...]
    controls: tuple[StrictFinding, ...]
    seeds_needed: int | None
    alpha: float | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, object]:
        """The object `verdict` that `judge --json` prints."""

        def said(one: StrictFinding) -> dict[str, object]:
            return {**asdict(one.finding), "at": one.at, "against": one.against}

        return {
            "outcome": self.outcome.name,
            "rule": self.rule,
            "density": self.density,
            "sparse_enough": self.sparse_enough,
            "steps": self.steps,
            "rates": list(self.rates),
            "conditions": [said(one) for one in self.conditions],
            "controls": [said(one) for one in self.controls],
            "seeds_needed": self.seeds_needed,
        }

    def __str__(self) -> str:
        n = self.conditions[0].finding.n
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        how = (
            "means compared, without tests"
            if self.alpha is None
            else f"in brackets one-sided bounds at {1 - self.alpha:.3g}, divided among the rates"
        )
        sentences = [
            f"{self.outcome.name}: {self.outcome.value}.",
            f"Rule {self.rule!r} at density {self.density:.4g}, n = {n}, rates {rates},"
            f" {self.steps:g} steps; {how}:",
            *map(str, (*self.conditions, *self.controls)),
        ]
        if not self.sparse_enough:
            sentences.append("It keeps too many weights to be worth a prize.")
        if not any(one.finding.name == "enough-steps" for one in self.conditions):
            sentences.append("No longer training was tried, so that this one is enough is assumed.")
        if self.outcome is Prize.UNDECIDED and self.seeds_needed is not None:
            sentences.append(
                "If the true differences and spreads are those observed,"
                f" {self.seeds_needed} seeds in all would decide with probability {POWER}."
            )
        return " ".join(sentences)


def judge_strictly(
    rule: Strict,
    cells: Sequence[Cell],
    *,
    density: float,
    margin: float,
    steps: float | None = None,
) -> StrictVerdict:
    """Apply the strict definition to a table of accuracies, one cell for each rate and length.

    1. *sparse-enough*, *enough-steps*: the ticket keeps few weights, and the dense network trained
       for longer is no better, where any was.
    2. *beats-thin*: at some rate clearly better than the small dense network at any.
    3. *beats-reinit*: at some rate clearly better than fresh initial values at any.
    4. *matches-dense*: at some rate similar to the dense network, or better, at the same rate.
    5. *matches-best-dense*: at some rate similar to the dense network, or better, at any rate and
       any length.

    All five: JACKPOT. The first four: SECONDARY, once the fifth is shown to fail. One of them shown
    to fail: NONE. Else UNDECIDED.

    "At some rate against any other" is the largest, over rates of the ticket, of the least, over
    those of the other arm, of the mean differences paired by seed. Its lower bound is the same of
    lower bounds, each at alpha over the number of the ticket's rates (one of them may be chosen,
    while against the other arm all must hold); its upper bound, of upper bounds at alpha over the
    number of the other's. The paper compares means, as `alpha=None` does; there a difference on the
    threshold is similar, and not clear.

    Args:
        rule: for instance `STRICT`.
        cells: no two of one rate and length; each with the arms ticket, dense, reinit and thin at
            the judged length, and with dense at longer ones.
        density: of the ticket, in (0, 1].
        margin: difference in accuracy (a fraction) that the world calls negligible, >= 0.
        steps: the length at which tickets are judged; by default the longest with every arm.

    Raises:
        VerdictError: an arm, a metric or learning rates are missing; cells differ in their number
            of seeds; an argument is out of range.

    Example:
        >>> def cell(rate, **arms):
        ...     samples = {arm: {"test_accuracy": values} for arm, values in arms.items()}
        ...     return Cell(rate=rate, steps=160, samples=samples)
        >>> table = [
        ...     cell(.01, ticket=[.91, .912, .911], dense=[.912, .913, .911],
        ...          reinit=[.87, .873, .871], thin=[.85, .852, .851]),
        ...     cell(.1, ticket=[.89, .893, .892], dense=[.923, .924, .922],
        ...          reinit=[.885, .887, .886], thin=[.87, .873, .872]),
        ... ]
        >>> rule = Strict(name="mine", similar=.005, least_rates=2, summary="two rates will do")
        >>> judge_strictly(rule, table, density=.086, margin=.01).outcome.name
        'SECONDARY'
    """
    check_size("judge_strictly(margin)", margin)
    if not 0 < density <= 1:
        raise VerdictError(f"judge_strictly(density={density!r}): want a fraction in (0, 1].")
    length, judged = _judged(rule, cells, steps)
    n = _check_cells(rule, cells)
    similar = margin if isinstance(rule.similar, Margin) else rule.similar
    longer = [cell for cell in cells if cell.steps > length and DENSE in cell.samples]
    whole = [cell for cell in cells if DENSE in cell.samples]

    def contest(
        name: str, least: float, arm: str, others: Callable[[Cell], Sequence[Cell]], own: str
    ) -> StrictFinding:
        return _contest(rule, name, least, (own, judged), (arm, others), n)

    findings = []
    if longer:
        findings.append(contest("enough-steps", -similar, DENSE, lambda _: longer, DENSE))
    findings += [
        contest("beats-thin", rule.clear, THIN, lambda _: judged, TICKET),
        contest("beats-reinit", rule.clear, REINIT, lambda _: judged, TICKET),
        contest("matches-dense", -similar, DENSE, lambda cell: [cell], TICKET),
        contest("matches-best-dense", -similar, DENSE, lambda _: whole, TICKET),
    ]
    sparse = density <= rule.most_density * (1 + ROUNDING)
    outcome = _outcome(rule, sparse, findings, n)
    return StrictVerdict(
        outcome=outcome,
        rule=rule.name,
        density=float(density),
        sparse_enough=sparse,
        steps=length,
        rates=tuple(cell.rate for cell in judged),
        conditions=tuple(findings),
        controls=tuple(
            contest(f"beats-{arm}", rule.clear, arm, lambda _: judged, TICKET)
            for arm in rule.controls
            if all(arm in cell.samples for cell in judged)
        ),
        seeds_needed=_seeds_needed(rule, cells, findings) if outcome is Prize.UNDECIDED else None,
        alpha=rule.alpha,
    )


def _judged(rule: Strict, cells: Sequence[Cell], steps: float | None) -> tuple[float, list[Cell]]:
    """The length at which tickets are judged, and its cells by rising rate."""
    places = [(cell.rate, cell.steps) for cell in cells]
    if len(set(places)) < len(places):
        raise VerdictError(f"judge_strictly(cells): two are of one rate and length: {places}.")
    full = [cell.steps for cell in cells if all(arm in cell.samples for arm in NEEDED)]
    length = max(full, default=None) if steps is None else steps
    judged = sorted((c for c in cells if c.steps == length), key=lambda cell: cell.rate)
    for cell in judged or cells:
        absent = [arm for arm in NEEDED if arm not in cell.samples]
        if absent:
            raise VerdictError(
                f"judge_strictly(cells): {cell} has the arms {', '.join(cell.samples) or 'none'}, "
                f"want {', '.join(absent)} too: rule {rule.name!r} cannot do without."
            )
    if length is None or len(judged) < rule.least_rates:
        rates = ", ".join(f"{cell.rate:g}" for cell in judged) or "none"
        raise VerdictError(
            f"judge_strictly(cells): rule {rule.name!r} compares learning rates; got {rates} at "
            f"one length, want {rule.least_rates} or more."
        )
    return length, judged


def _check_cells(rule: Strict, cells: Sequence[Cell]) -> int:
    """The number of seeds, once every arm has the metric for the same of them."""
    lengths = set()
    for cell in cells:
        for arm, metrics in cell.samples.items():
            if rule.metric not in metrics:
                raise VerdictError(
                    f"judge_strictly(cells): arm {arm!r} at {cell} has the metrics "
                    f"{', '.join(metrics) or 'none'}, want {rule.metric!r}."
                )
            lengths.add(len(metrics[rule.metric]))
    if len(lengths) != 1 or 0 in lengths:
        raise VerdictError(
            f"judge_strictly(cells): arms have {sorted(lengths)} values, want one per seed, in the "
            "same order and number everywhere, and at least one."
        )
    return lengths.pop()


def _contest(
    rule: Strict,
    name: str,
    least: float,
    own: tuple[str, Sequence[Cell]],
    other: tuple[str, Callable[[Cell], Sequence[Cell]]],
    n: int,
) -> StrictFinding:
    """The best of one arm against the best of another: largest of the least of the differences."""
    (arm, cells), (against, others) = own, other
    alpha = rule.alpha if rule.alpha is not None and n > 1 else None
    rows = [
        [(cell, there, _difference(rule, (arm, cell), (against, there))) for there in others(cell)]
        for cell in cells
    ]
    weakest = [min(row, key=lambda found: mean(found[2])) for row in rows]
    cell, there, values = max(weakest, key=lambda found: mean(found[2]))
    estimate = mean(values)
    low = high = None
    if alpha is not None:
        lows = [min(_bounds(of, alpha / len(rows))[0] for _, _, of in row) for row in rows]
        highs = [min(_bounds(of, alpha / len(row))[1] for _, _, of in row) for row in rows]
        low, high = max(lows), max(highs)
    passed: bool | None
    if rule.alpha is None:
        passed = estimate > least + ROUNDING if least > 0 else estimate >= least - ROUNDING
    else:
        passed = None if low is None else low > least
    found = Finding(
        name=name, estimate=estimate, low=low, high=high, margin=0.0 - least, passed=passed, n=n
    )
    sd = stdev(values) if n > 1 else None
    return StrictFinding(finding=found, at=str(cell), against=str(there), sd=sd)


def _difference(rule: Strict, own: tuple[str, Cell], other: tuple[str, Cell]) -> list[float]:
    (arm, cell), (against, there) = own, other
    samples = {TICKET: cell.samples[arm], against: there.samples[against]}
    return differences(Beats(name=against, metric=rule.metric, arm=against), samples)


def _bounds(values: Sequence[float], alpha: float) -> tuple[float, float]:
    found = paired(values, alpha)
    assert found.low is not None and found.high is not None
    return found.low, found.high


def _outcome(rule: Strict, sparse: bool, findings: Sequence[StrictFinding], n: int) -> Prize:
    *shared, best = findings
    if not sparse:
        return Prize.NONE
    if rule.alpha is not None and n < max(2, rule.least_seeds):
        return Prize.UNDECIDED
    if any(one.failed for one in shared):
        return Prize.NONE
    if not all(one.finding.passed for one in shared):
        return Prize.UNDECIDED
    if best.finding.passed:
        return Prize.JACKPOT
    return Prize.SECONDARY if best.failed else Prize.UNDECIDED


def _seeds_needed(
    rule: Strict, cells: Sequence[Cell], findings: Sequence[StrictFinding]
) -> int | None:
    """The most that any open condition needs, and no fewer than the definition wants."""
    assert rule.alpha is not None
    needed = max(2, rule.least_seeds)
    alpha = rule.alpha / len({cell.rate for cell in cells})
    for one in findings:
        found = one.finding
        if found.passed or one.failed or one.sd is None or found.estimate is None:
            continue
        seeds = seeds_to_decide(abs(found.estimate + found.margin), one.sd, alpha)
        if seeds is None:
            return None
        needed = max(needed, seeds)
    return needed
