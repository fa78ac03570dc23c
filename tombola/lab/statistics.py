"""The four calculations that verdicts and tables rest on: pure functions of sequences of floats.

Seeds are the unit of replication everywhere: one value is one seed. Intervals and tests use
Student's t, which is exact for normal values and the least bad choice for the three to twenty
seeds that training budgets allow (a bootstrap of five values is too narrow).

A value that is not finite raises: what diverged is passed as None, so that a NaN born of a
mistake elsewhere cannot pass for an outcome.

Means and spreads are the standard library's, which work on exact fractions: equal values have a
spread of exactly zero and a mean equal to each of them. Sums of floats do not promise that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import stats

from tombola.errors import VerdictError

POWER = 0.8
"""Probability with which the seeds we ask for decide, if the truth is what was observed."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean of one metric over seeds, with its two-sided t interval.

    All numbers are in the unit of the metric. `values` has one entry per seed, in the order of
    the seeds, None where the trial diverged; the mean and the interval are over the rest.
    """

    mean: float | None
    low: float | None
    high: float | None
    values: tuple[float | None, ...]

    def as_json(self) -> dict[str, object]:
        """The object that `find --json` prints for a metric."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "values": list(self.values)}


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Mean of n differences, in the unit of the metric, with a lower and an upper bound.

    Each bound is one-sided at 1 - alpha; together they are the two-sided interval at 1 - 2 alpha.
    Bounds and `sd` (sample standard deviation) are None for a single difference.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    sd: float | None


def summarise(values: Sequence[float | None], confidence: float = 0.95) -> Summary:
    """Mean and t interval over the seeds that did not diverge.

    Args:
        values: one per seed, None where the trial diverged.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        A summary whose bounds are None with fewer than two values left, and whose mean is None
        with none left.

    Raises:
        VerdictError: a value is not finite, or `confidence` is not in (0, 1).

    Example:
        >>> summary = summarise([0.90, None, 0.94, 0.92])
        >>> print(f"{summary.mean:.2f} [{summary.low:.3f}, {summary.high:.3f}]")
        0.92 [0.870, 0.970]
    """
    if not 0 < confidence < 1:
        raise VerdictError(
            f"summarise(confidence={confidence!r}): want a probability in (0, 1), such as 0.95."
        )
    left = _finite([value for value in values if value is not None], "summarise(values)")
    kept = iter(left)
    middle = mean(left) if left else None
    half = _half_width(left, (1 - confidence) / 2)
    return Summary(
        mean=middle,
        low=None if middle is None or half is None else middle - half,
        high=None if middle is None or half is None else middle + half,
        values=tuple(None if value is None else next(kept) for value in values),
    )


def paired(differences: Sequence[float], alpha: float = 0.05) -> Paired:
    """One-sided bounds, each at 1 - alpha, of the mean of paired differences.

    `low > b` is the one-sided paired t test of size alpha rejecting "the mean is at most b".

    Args:
        differences: one per seed, in the unit of the metric.
        alpha: size of each one-sided test, in (0, 0.5).

    Raises:
        VerdictError: no differences, one that is not finite, or `alpha` out of range.

    Example:
        >>> found = paired([0.01, 0.02, 0.03])
        >>> print(f"{found.estimate:.2f} [{found.low:.4f}, {found.high:.4f}], n = {found.n}")
        0.02 [0.0031, 0.0369], n = 3
    """
    check_alpha(alpha, "paired")
    values = _finite(differences, "paired(differences)")
    if not values:
        raise VerdictError(
            "paired(differences): got none, want at least one, from a seed trained in both arms."
        )
    middle = mean(values)
    half = _half_width(values, alpha)
    return Paired(
        estimate=middle,
        low=None if half is None else middle - half,
        high=None if half is None else middle + half,
        n=len(values),
        sd=None if half is None else stdev(values),
    )


def chance(differences: Sequence[float], boundary: float) -> float | None:
    """p-value of the one-sided paired t test of "the mean is at most `boundary`".

    Below alpha exactly where `paired(differences, alpha).low` is above the boundary. Where all
    differences are equal it is 0 above the boundary, else 1.

    Args:
        differences: one per seed, in the unit of the metric.
        boundary: in the same unit.

    Returns:
        A probability, or None for fewer than two differences.

    Raises:
        VerdictError: a difference is not finite.

    Example:
        >>> f"{chance([0.01, 0.02, 0.03], 0.0):.4f}"
        '0.0371'
    """
    values = _finite(differences, "chance(differences)")
    if len(values) < 2:
        return None
    gap, spread = mean(values) - boundary, stdev(values)
    if spread == 0:
        return 0.0 if gap > 0 else 1.0
    return float(stats.t.sf(gap / spread * math.sqrt(len(values)), len(values) - 1))


def seeds_to_decide(
    gap: float,
    sd: float,
    alpha: float = 0.05,
    power: float = POWER,
    least: int = 2,
    most: int = 1000,
) -> int | None:
    """Smallest number of seeds with which a one-sided paired t test rejects often enough.

    The power comes from the noncentral t distribution and grows with the number of seeds.

    Args:
        gap: distance of the true mean from the tested boundary, >= 0, in the unit of the metric.
        sd: standard deviation of the differences, >= 0, in the same unit.
        alpha: size of the one-sided test, in (0, 0.5).
        power: probability of rejecting that is asked for, in (alpha, 1).
        least: smallest answer allowed, >= 2 (a t test needs two).
        most: largest answer allowed.

    Returns:
        The number of seeds in all, or None if it would be more than `most`; so also for a gap of
        0, which no number of seeds can show.

    Raises:
        VerdictError: an argument is out of the range given above.

    Example:
        >>> seeds_to_decide(0.01, 0.01), seeds_to_decide(0.0001, 0.01)
        (8, None)
    """
    check_alpha(alpha, "seeds_to_decide")
    for name, value in (("gap", gap), ("sd", sd)):
        if not (math.isfinite(value) and value >= 0):
            raise VerdictError(
                f"seeds_to_decide({name}={value!r}): want a finite number >= 0, in the unit of the"
                " metric; pass the distance from the boundary, without its sign."
            )
    if not alpha < power < 1:
        raise VerdictError(
            f"seeds_to_decide(power={power!r}): want a probability in (alpha, 1), here"
            f" ({alpha:g}, 1); {POWER} is usual."
        )
    if least < 2:
        raise VerdictError(f"seeds_to_decide(least={least!r}): want 2 or more, a t test needs two.")
    if gap == 0 or least > most:
        return None
    effect = gap / sd if sd else math.inf
    if _power(effect, most, alpha) < power:
        return None
    enough, short = most, least - 1
    while enough - short > 1:
        middle = (enough + short) // 2
        if _power(effect, middle, alpha) >= power:
            enough = middle
        else:
            short = middle
    return enough


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values that keep the family-wise error at the level they are compared with.

    For rules that ask at which of several densities something holds. Source: Holm 1979,
    "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6:65-70.

    Args:
        p_values: one per density, each in [0, 1], in any order.

    Returns:
        One per p-value, in the same order, in [0, 1].

    Raises:
        VerdictError: a value is not in [0, 1].

    Example:
        >>> holm([0.25, 0.125, 0.5])
        (0.5, 0.375, 0.5)
    """
    for value in p_values:
        if not 0 <= value <= 1:
            raise VerdictError(f"holm(p_values): got {value!r}, want probabilities in [0, 1].")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def check_alpha(alpha: float, where: str) -> None:
    """Raise VerdictError unless `alpha` is in (0, 0.5); `where` names what it was given to."""
    if not 0 < alpha < 0.5:
        raise VerdictError(
            f"{where}(alpha={alpha!r}): want the size of a one-sided test in (0, 0.5), such as"
            " 0.05. To be 95 % sure pass alpha=0.05."
        )


def _finite(values: Sequence[float], where: str) -> list[float]:
    """The values as Python floats, so that no NumPy scalar ends up in a JSON document."""
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise VerdictError(
                f"{where}: number {index} is {value!r}, want finite numbers."
                " Give a trial that diverged as None."
            )
    return [float(value) for value in values]


def _half_width(values: Sequence[float], alpha: float) -> float | None:
    """Distance from the mean to a one-sided bound at 1 - alpha; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    return float(stats.t.ppf(1 - alpha, n - 1)) * stdev(values) / math.sqrt(n)


def _power(effect: float, n: int, alpha: float) -> float:
    """Power of the one-sided t test on n differences with mean `effect` sds off the boundary."""
    critical = float(stats.t.ppf(1 - alpha, n - 1))
    noncentrality = effect * math.sqrt(n)
    # Far out scipy's series returns NaN or warns. There the power is 1 to double precision: a test
    # that fails needs a normal below -10 or a chi (over the root of its degrees) above 10.
    if noncentrality > 10 * (1 + critical):
        return 1.0
    return float(stats.nct.sf(critical, n - 1, noncentrality))
