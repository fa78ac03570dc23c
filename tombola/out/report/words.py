"""How a report says what the records hold: metrics, conditions, checks, a study's command."""

from collections.abc import Mapping
from typing import Any

from tombola.lab.verdict import Finding
from tombola.out.terminal import fraction

MEANING_OF_CHECKS: Mapping[str, str] = {
    "rewind_exact": "After a rewind every kept weight, bias and normalisation statistic equals the "
    "stored value bit for bit, and nothing wrote into the stored values.",
    "optimiser_fresh": "Each retraining starts with empty optimiser state, its clock where the "
    "recipe says.",
    "mask_nested": "Masks only shrink: what is cut once stays cut.",
    "count_exact": "Each layer keeps exactly the number of weights asked for, under ties too.",
    "cut_stays_zero": "Cut weights are exactly +0.0 when training ends.",
    "arms_paired": "All arms of a seed saw the same examples, order, noise and learning rates; a "
    "control differs from the ticket in what it claims alone.",
}


def titled(metric: str) -> str:
    """A metric's name for people.

    >>> [titled(m) for m in ("test_accuracy", "stop_test_loss", "stop_step")]
    ['final test accuracy', 'test loss at the stop step', 'stop step']
    """
    if metric.startswith("stop_test_"):
        return f"test {metric.removeprefix('stop_test_')} at the stop step".replace("_", " ")
    if metric.startswith("test_"):
        return f"final {metric}".replace("_", " ")
    return metric.replace("_", " ")


def amount(metric: str, value: float) -> str:
    """A metric's value: four places of a fraction, whole steps, else four figures.

    >>> amount("test_accuracy", .98333), amount("stop_step", 1962.4), amount("test_loss", .071234)
    ('.9833', '1,962', '0.07123')
    """
    if metric.endswith("accuracy"):
        return fraction(value)
    return f"{value:,.0f}" if metric.endswith("step") else f"{value:#.4g}".removesuffix(".")


def difference(metric: str, value: float) -> str:
    """An amount with its sign.

    >>> [difference("test_accuracy", d) for d in (-.00333, 0.0)], difference("stop_step", 12.0)
    (['−.0033', '0'], '+12')
    """
    if value == 0:
        return "0"
    return f"{'−' if value < 0 else '+'}{amount(metric, abs(value))}"


def interval(metric: str, low: float | None, high: float | None) -> str:
    """Both bounds in brackets, or that there are none.

    >>> interval("test_accuracy", .98, .99), interval("test_accuracy", None, None)
    ('[.9800, .9900]', '(no interval)')
    """
    if low is None or high is None:
        return "(no interval)"
    return f"[{amount(metric, low)}, {amount(metric, high)}]"


def claim(condition: Mapping[str, Any], margin: float) -> str:
    """What a condition asks for, in words.

    >>> claim({"kind": "matches", "metric": "test_accuracy", "arm": "dense", "direction": 1}, .01)
    'Matches dense: final test accuracy less than .0100 lower'
    >>> claim({"kind": "beats", "metric": "stop_step", "arm": "reinit", "direction": -1}, 0)
    'Beats reinit: lower stop step'
    """
    metric, arm, better = condition["metric"], condition["arm"], condition["direction"] > 0
    if condition["kind"] == "beats":
        return f"Beats {arm}: {'higher' if better else 'lower'} {titled(metric)}"
    side = "lower" if better else "higher"
    return f"Matches {arm}: {titled(metric)} less than {amount(metric, margin)} {side}"


def state(finding: Finding) -> str:
    """What was shown of a condition, in a word or two."""
    if finding.estimate is None:
        return "not tested"
    if finding.low is None:
        return "needs two seeds"
    return "holds" if finding.passed else "fails" if finding.failed else "not shown"
