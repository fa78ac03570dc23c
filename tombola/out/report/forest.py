"""Forest plots: an estimate, its bounds, each seed and what is wanted, one row a condition.

Rows of one metric share an axis, so that they can be compared by eye; positive is in the ticket's
favour. Plain data for the page, as in `figures`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tombola.errors import VerdictError
from tombola.lab.ladder import LADDERS, Rung
from tombola.lab.rows import samples_of
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET, Beats, Finding, Samples, differences
from tombola.out.report.figures import Figure, axis, layout, title
from tombola.out.report.words import claim, difference, state, titled
from tombola.out.terminal import fraction

HALF = 0.38  # of a row's height, for what is shaded
SEEDS_BELOW = 0.24  # of a row's height, between its line and the dots of single seeds


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the plot.

    label: at the left. says: what it is about, for whoever points at it. each: differences, one per
    seed. arm: with which the line is hidden and shown.
    """

    label: str
    says: str
    finding: Finding
    each: Sequence[float]
    arm: str
    holds: bool


def condition_forests(study: Study) -> dict[str, Figure]:
    """The conditions of a study's verdict that were tested, a plot for each metric."""
    samples = samples_of(study.rows, study.facts["setting"]["judged_round"])
    found: dict[str, list[Row]] = {}
    about = study.facts["about"]["conditions"]
    for condition, finding in zip(about, study.verdict.conditions, strict=True):
        if finding.estimate is None:
            continue
        row = Row(
            label=condition["name"],
            says=f"{claim(condition, finding.margin)}: {state(finding)}",
            finding=finding,
            each=_each(condition, samples),
            arm=condition["arm"],
            holds=bool(finding.passed),
        )
        found.setdefault(condition["metric"], []).append(row)
    seeds = study.document["seeds"]
    return {metric: forest(rows, metric, seeds) for metric, rows in found.items()}


def density_forest(study: Study) -> Figure | None:
    """Whether the ticket matches dense, at every density; None where that cannot be asked."""
    try:
        verdict = study.judge_along(LADDERS["densities"])
    except VerdictError:
        return None
    metric = "test_accuracy"
    condition = {"name": "matches-dense", "metric": metric, "arm": "dense", "direction": 1}
    rows = [
        Row(
            label=fraction(rung.density),
            says=f"density {fraction(rung.density)}, round {rung.round}: {_state_of(rung)}",
            finding=rung.conditions[0],
            each=_each(condition, samples_of(study.rows, rung.round)),
            arm=TICKET,
            holds=bool(rung.holds),
        )
        for rung in verdict.rungs
    ]
    return forest(rows, metric, study.document["seeds"])


def _state_of(rung: Rung) -> str:
    return {True: "matches dense", False: "not shown to match", None: "too few seeds"}[rung.holds]


def _each(condition: Mapping[str, Any], samples: Samples) -> list[float]:
    """The differences of each seed, positive in the ticket's favour."""
    asked = Beats(
        name=condition["name"],
        metric=condition["metric"],
        arm=condition["arm"],
        direction=condition["direction"],
    )
    return differences(asked, samples)


def forest(rows: Sequence[Row], metric: str, seeds: Sequence[int]) -> Figure:
    """One metric's rows, the first at the top."""
    low, high = _ends(rows)
    return {
        "data": [
            trace for place, row in enumerate(rows) for trace in _line(row, place, metric, seeds)
        ],
        "layout": layout(
            height=72 + 44 * len(rows),
            xaxis=axis(
                range=[low, high],
                title=title(f"ticket’s advantage, {titled(metric)}"),
                tickformat="+,.0f" if metric.endswith("step") else "+.3~f",
            ),
            yaxis=axis(
                range=[len(rows) - 0.5, -0.5],
                tickvals=list(range(len(rows))),
                ticktext=[escape(row.label, quote=False) for row in rows],
                showgrid=False,
                fixedrange=True,
                ticklen=0,
            ),
            shapes=[
                {
                    "type": "line",
                    "xref": "x",
                    "yref": "paper",
                    "x0": 0.0,
                    "x1": 0.0,
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": "var(--muted)", "width": 1, "dash": "dot"},
                    "layer": "below",
                },
                *(_wanted(row, place, high) for place, row in enumerate(rows)),
            ],
        ),
    }


def _ends(rows: Sequence[Row]) -> tuple[float, float]:
    """The axis: everything that is drawn, and a little more."""
    drawn = [0.0]
    for row in rows:
        bounds = (row.finding.low, row.finding.high, row.finding.estimate, -row.finding.margin)
        drawn += [value for value in (*bounds, *row.each) if value is not None]
    pad = 0.06 * (max(drawn) - min(drawn)) or 1.0
    return min(drawn) - pad, max(drawn) + pad


def _wanted(row: Row, place: int, high: float) -> Figure:
    """The shaded side of a row, on which its lower bound must lie."""
    return {
        "type": "rect",
        "xref": "x",
        "yref": "y",
        "x0": -row.finding.margin,
        "x1": high,
        "y0": place - HALF,
        "y1": place + HALF,
        "fillcolor": "var(--band)",
        "line": {"width": 0},
        "layer": "below",
    }


def _line(row: Row, place: int, metric: str, seeds: Sequence[int]) -> list[Figure]:
    found, colour = row.finding, "var(--good)" if row.holds else "var(--ticket)"
    text = _label(row, metric, seeds)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": row.arm,
        "x": list(row.each),
        "y": [place + SEEDS_BELOW] * len(row.each),
        "marker": {"color": "var(--muted)", "size": 5, "symbol": "circle-open"},
        "hoverinfo": "skip",
    }
    middle = {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": row.arm,
        "x": [found.estimate],
        "y": [place],
        "marker": {"color": colour, "size": 9, "symbol": "circle" if row.holds else "diamond"},
        "text": [text],
        "hovertemplate": "%{text}<extra></extra>",
    }
    if found.low is None or found.high is None:
        return [dots, middle]
    span = {
        "type": "scatter",
        "mode": "lines+markers",
        "legendgroup": row.arm,
        "x": [found.low, found.high],
        "y": [place, place],
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 9, "symbol": "line-ns-open"},
        "hoverinfo": "skip",
    }
    return [dots, span, middle]


def _label(row: Row, metric: str, seeds: Sequence[int]) -> str:
    """What a row says: the claim, the numbers, n, and each seed."""
    found = row.finding
    assert found.estimate is not None
    said = difference(metric, found.estimate)
    if found.low is not None and found.high is not None:
        bounds = (difference(metric, found.low), difference(metric, found.high))
        said += f" [{bounds[0]}, {bounds[1]}]"
    each = [
        f"seed {seed}: {difference(metric, value)}"
        for seed, value in zip(seeds, row.each, strict=True)
    ]
    lines = [
        f"<b>{escape(row.says, quote=False)}</b>",
        f"{said}, wanted above {difference(metric, 0.0 - found.margin)}, n = {found.n}",
        *("   ".join(each[start : start + 3]) for start in range(0, len(each), 3)),
    ]
    return "<br>".join(lines)
