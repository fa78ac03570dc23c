"""The report's charts, as plotly figures that are plain data; the page draws them.

A colour or a font is the name of one of the page's style variables, `"var(--ink)"`, so that one
figure serves light, dark and paper. Each trace carries its arm as `legendgroup`, by which the page
hides and shows it. Text that a study brings (names of arms and tensors) is escaped here, for plotly
reads a few tags.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

import numpy as np
from plotly.offline import get_plotlyjs

from tombola.lab.statistics import summarise
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET
from tombola.out.report.curves import Curve, Curves
from tombola.out.report.words import amount, interval, titled
from tombola.out.terminal import fraction

Figure: TypeAlias = dict[str, Any]
"""`data` and `layout`, as plotly.js takes them."""

DENSE = "dense"
SYMBOLS = ("square", "triangle-up", "diamond", "triangle-down", "cross", "x")
DASHES = ("dash", "dot", "dashdot", "longdash")
COLOURS = 5  # beside the ticket's and the dense network's
SKIPPED = 0.05  # of the steps, whose values do not set a curve's axis


def library() -> str:
    """plotly.js, whole: its wheel has no smaller bundle."""
    return str(get_plotlyjs())


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an arm looks; no two of a usual study share a colour, none share all three."""

    colour: str
    symbol: str | None
    dash: str


def styles_of(arms: Sequence[str]) -> dict[str, Style]:
    """A style for each arm, by its place.

    >>> [style.symbol for style in styles_of(["ticket", "dense", "reinit"]).values()]
    ['circle', None, 'square']
    """
    found, place = {}, 0
    for arm in arms:
        if arm == TICKET:
            found[arm] = Style(colour="var(--ticket)", symbol="circle", dash="solid")
        elif arm == DENSE:
            found[arm] = Style(colour="var(--dense)", symbol=None, dash="solid")
        else:
            found[arm] = Style(
                colour=f"var(--arm-{place % COLOURS + 1})",
                symbol=SYMBOLS[place % len(SYMBOLS)],
                dash=DASHES[place % len(DASHES)],
            )
            place += 1
    return found


# -- a metric against density ------------------------------------------------------------------


def against_density(study: Study, metric: str) -> Figure:
    """One metric of every arm against density, dense at the left, the judged density marked."""
    rows = [row for row in study.rows if row["metrics"][metric]["mean"] is not None]
    densities = {row["density"] for row in study.rows}
    nothing = min(densities - {0.0}, default=1.0) / 3  # where networks that keep nothing are drawn
    ends = (1.15, (nothing if 0.0 in densities else 3 * nothing) / 1.15)
    arms = [TICKET, *study.facts["arms"]]
    beside = [arm for arm in arms if arm != DENSE]
    shift = 0.008 * math.log(ends[0] / ends[1])  # a few pixels, so that intervals do not overlap
    traces = []
    whole = _whole(rows)
    if whole is not None:
        places = sorted({density or nothing for density in densities} | set(ends), reverse=True)
        traces += _band(whole, metric, places, study)
    for arm, style in reversed(styles_of(arms).items()):
        own = [row for row in rows if row["arm"] == arm]
        if arm != DENSE and own:
            place = beside.index(arm) - (len(beside) - 1) / 2
            drawn = [(row["density"] or nothing) * math.exp(-shift * place) for row in own]
            traces.append(_points(own, drawn, metric, style, study))
    judged = study.verdict.density
    return {
        "data": traces,
        "layout": layout(
            xaxis=density_axis(*ends, nothing=nothing if 0.0 in densities else None),
            yaxis=axis(tickformat=",") if metric == "stop_step" else axis(),
            shapes=[
                {
                    "type": "line",
                    "xref": "x",
                    "yref": "paper",
                    "x0": judged,
                    "x1": judged,
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": "var(--muted)", "width": 1, "dash": "dot"},
                    "layer": "below",
                }
            ],
            annotations=[
                {
                    "xref": "x",
                    "yref": "paper",
                    "x": math.log10(judged),
                    "y": 1,
                    "xanchor": "right",
                    "yanchor": "top",
                    "xshift": -3,
                    "text": "judged here",
                    "showarrow": False,
                    "font": {"color": "var(--muted)", "size": 12},
                }
            ],
        ),
    }


def _whole(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of the whole network: the arm, else the ticket's round 0."""
    whole = [row for row in rows if row["round"] == 0 and row["arm"] in (DENSE, TICKET)]
    return min(whole, key=lambda row: row["arm"] != DENSE, default=None)


def _band(
    row: Mapping[str, Any], metric: str, densities: Sequence[float], study: Study
) -> list[Figure]:
    """The whole network's mean and interval, drawn through at every density."""
    found, traces = row["metrics"][metric], []
    if found["low"] is not None:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "legendgroup": DENSE,
                "x": [densities[0], densities[-1], densities[-1], densities[0]],
                "y": [found["low"], found["low"], found["high"], found["high"]],
                "fill": "toself",
                "fillcolor": "var(--band)",
                "line": {"width": 0},
                "hoverinfo": "skip",
            }
        )
    line = {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": DENSE,
        "x": list(densities),
        "y": [found["mean"]] * len(densities),
        "line": {"color": "var(--dense)", "width": 1.5},
        "hovertemplate": f"{_label(row, metric, study)}<extra></extra>",
    }
    return [*traces, line]


def _points(
    rows: Sequence[Mapping[str, Any]],
    places: Sequence[float],
    metric: str,
    style: Style,
    study: Study,
) -> Figure:
    found = [row["metrics"][metric] for row in rows]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "legendgroup": rows[0]["arm"],
        "x": list(places),
        "y": [of["mean"] for of in found],
        "error_y": {
            "type": "data",
            "array": [0.0 if of["low"] is None else of["high"] - of["mean"] for of in found],
            "color": style.colour,
            "thickness": 1.2,
            "width": 3,
        },
        "line": {"color": style.colour, "width": 1.2, "dash": style.dash},
        "marker": {"color": style.colour, "symbol": style.symbol, "size": 8},
        "text": [_label(row, metric, study) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _label(row: Mapping[str, Any], metric: str, study: Study) -> str:
    """What a point says: arm, round, counts, mean, interval, n, and each seed."""
    of = row["metrics"][metric]
    each = [
        f"seed {seed}: {'diverged' if value is None else amount(metric, value)}"
        for seed, value in zip(study.document["seeds"], of["values"], strict=True)
    ]
    lines = [
        f"<b>{escape(row['arm'], quote=False)}</b>, round {row['round']}",
        f"density {fraction(row['density'])}: {row['kept']:,} of {row['total']:,} weights",
        f"{titled(metric)} {amount(metric, of['mean'])} {interval(metric, of['low'], of['high'])}",
        _n(row["n"], sum(value is not None for value in of["values"])),
        *("   ".join(each[start : start + 3]) for start in range(0, len(each), 3)),
    ]
    return "<br>".join(lines)


def _n(asked: int, finished: int) -> str:
    return f"n = {asked}" if finished == asked else f"n = {finished} of {asked}, the rest diverged"


# -- validation curves -------------------------------------------------------------------------


def curve_figures(curves: Curves, arms: Sequence[str], metric: str, steps: int) -> Figure:
    """A metric of the validation split against steps: one layout, and the traces of each round.

    The axes are the same in every round: from no step to `steps`, those of the world, and over
    what comes after the first of them.
    """
    styles, drawn = styles_of(arms), {place: of[metric] for place, of in curves.of.items()}
    rounds = sorted({number for _, number in drawn})
    log, (low, high) = _extent(list(drawn.values()), steps)
    floor = 10 ** (low - 1) if log else -math.inf
    frames = {}
    for number in rounds:
        traces = []
        for arm, style in reversed(styles.items()):
            place = (arm, 0) if arm == DENSE else (arm, number)
            if place in drawn:
                traces += _curve(drawn[place], place, metric, style, floor)
        frames[str(number)] = traces
    shared = layout(
        xaxis=axis(range=[0, 1.02 * steps], tickformat=",", title=title("optimiser steps")),
        yaxis=axis(range=[low, high], **(_log_ticks(10**low, 10**high) if log else {})),
    )
    return {"layout": shared, "frames": frames}


def _extent(curves: Sequence[Curve], steps: int) -> tuple[bool, tuple[float, float]]:
    """Whether the axis is logarithmic, and its ends (as exponents of ten where it is)."""
    first = SKIPPED * steps
    late = np.concatenate([of.mean[of.steps >= min(first, of.steps[-1])] for of in curves])
    log = bool(late.min() > 0) and bool(late.max() > 10 * late.min())
    ends = np.log10(late) if log else late
    pad = 0.06 * float(np.ptp(ends)) or 0.01
    return log, (float(ends.min()) - pad, float(ends.max()) + pad)


def _curve(
    curve: Curve, place: tuple[str, int], metric: str, style: Style, floor: float
) -> list[Figure]:
    arm, number = place
    several = curve.n > 1
    low, high = np.maximum(curve.low[several], floor), curve.high[several]
    steps = curve.steps[several]
    band = {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": arm,
        "x": [*steps.tolist(), *steps[::-1].tolist()],
        "y": _short([*low, *high[::-1]]),
        "fill": "toself",
        "fillcolor": style.colour,
        "opacity": 0.16,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": arm,
        "x": curve.steps.tolist(),
        "y": _short(curve.mean),
        "line": {"color": style.colour, "width": 1.6, "dash": style.dash},
        "text": [
            f"{amount(metric, mean)} {_bounds(metric, low, high)}, n = {n}"
            for mean, low, high, n in zip(curve.mean, curve.low, curve.high, curve.n, strict=True)
        ],
        "hovertemplate": f"<b>{escape(arm, quote=False)}</b>, round {number}, step %{{x}}<br>"
        f"validation {escape(metric, quote=False)} %{{text}}<extra></extra>",
    }
    return [band, line] if len(steps) else [line]


def _bounds(metric: str, low: float, high: float) -> str:
    known = math.isfinite(low)
    return interval(metric, low if known else None, high if known else None)


def _short(values: Sequence[float] | np.ndarray) -> list[float]:
    """Five figures: more than a screen shows, half the bytes."""
    return [float(f"{value:.5g}") for value in values]


# -- density of each layer ---------------------------------------------------------------------


def layer_figures(study: Study) -> tuple[dict[str, Figure], list[str]]:
    """A heat map of each layer's density by round, for the ticket and every arm that keeps other
    counts; and the arms that keep the ticket's counts in every layer.

    Left out are whole networks, and those whose layers have other names.
    """
    totals = {layer["name"]: math.prod(layer["shape"]) for layer in study.facts["about"]["layers"]}
    # arm -> round -> seed -> layer
    kept: dict[str, dict[int, dict[int, Mapping[str, int]]]] = {TICKET: {}}
    kept |= {arm: {} for arm in study.facts["arms"]}
    for trial in study.facts["trials"]:
        of_round = kept[trial["arm"]].setdefault(trial["round"], {})
        of_round.setdefault(trial["seed"], trial["kept"])
    shown = {
        arm: rounds
        for arm, rounds in kept.items()
        if all(of.keys() == totals.keys() for seeds in rounds.values() for of in seeds.values())
        and any(of != totals for seeds in rounds.values() for of in seeds.values())
    }
    ticket = shown.pop(TICKET, {})
    same = [
        arm
        for arm, rounds in shown.items()
        if all(ticket.get(number) == of_round for number, of_round in rounds.items())
    ]
    drawn = {TICKET: ticket, **{arm: of for arm, of in shown.items() if arm not in same}}
    return {arm: _heat_map(study, arm, rounds) for arm, rounds in drawn.items() if rounds}, same


def _heat_map(
    study: Study, arm: str, kept: Mapping[int, Mapping[int, Mapping[str, int]]]
) -> Figure:
    layers = study.facts["about"]["layers"]
    rounds = sorted(kept)
    heat, cells, labels = [], [], []
    for layer in layers:
        total = math.prod(layer["shape"])
        counts = [[of_seed[layer["name"]] for of_seed in kept[r].values()] for r in rounds]
        densities = [sum(of) / len(of) / total for of in counts]
        heat.append([math.log10(d) if d > 0 else None for d in densities])
        cells.append([_two_figures(d) for d in densities])
        shape = " × ".join(map(str, layer["shape"]))
        labels.append(
            [
                f"<b>{escape(layer['name'], quote=False)}</b> ({shape}), {escape(arm, quote=False)}"
                f", round {number}<br>{_counted(of, total)}"
                for number, of in zip(rounds, counts, strict=True)
            ]
        )
    known = [value for row in heat for value in row if value is not None]
    floor = min([-1.0, *known])
    places = list(range(len(layers)))
    return {
        "data": [
            {
                "type": "heatmap",
                "x": rounds,
                "y": places,
                "z": [[floor if value is None else value for value in row] for row in heat],
                "zmin": floor,
                "zmax": 0,
                "text": cells,
                "texttemplate": "%{text}",
                "hovertext": labels,
                "hovertemplate": "%{hovertext}<extra></extra>",
                "colorscale": [[k / 4, f"var(--heat-{k})"] for k in range(5)],
                "showscale": False,
                "xgap": 2,
                "ygap": 2,
            }
        ],
        "layout": layout(
            height=76 + 30 * len(layers),
            xaxis=axis(
                tickvals=rounds, showgrid=False, title=title("round"), fixedrange=True, ticklen=0
            ),
            yaxis=axis(
                tickvals=places,
                ticktext=[escape(_last_part(layer["name"]), quote=False) for layer in layers],
                autorange="reversed",
                showgrid=False,
                fixedrange=True,
                ticklen=0,
            ),
        ),
    }


def _counted(counts: Sequence[int], total: int) -> str:
    """How many of a layer's weights are kept, over seeds."""
    if len(set(counts)) == 1:
        each = "" if len(counts) == 1 else f" in each of {len(counts)} seeds"
        return (
            f"{counts[0]:,} of {total:,} weights{each}: density {_two_figures(counts[0] / total)}"
        )
    of = summarise(counts)
    assert of.mean is not None and of.low is not None and of.high is not None
    return (
        f"{of.mean:,.1f} [{of.low:,.1f}, {of.high:,.1f}] of {total:,} weights, n = {len(counts)};"
        f"<br>from {min(counts):,} to {max(counts):,}: mean density {_two_figures(of.mean / total)}"
    )


def _two_figures(density: float) -> str:
    """A density for a small cell.

    >>> [_two_figures(d) for d in (1.0, .512, .0358, .00123, 0.0)]
    ['1', '.51', '.036', '.0012', '0']
    """
    if density in (0.0, 1.0):
        return f"{density:.0f}"
    places = max(2, 1 - math.floor(math.log10(density)))
    return f"{density:.{places}f}".removeprefix("0")


def _last_part(name: str, length: int = 20) -> str:
    """The end of a long name, which tells tensors apart."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


# -- what all share ----------------------------------------------------------------------------


def layout(**more: Any) -> dict[str, Any]:
    """What every chart looks like; more: its own keys."""
    return {
        "font": {"family": "var(--sans)", "size": 13, "color": "var(--muted)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 10, "t": 8, "b": 8},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "var(--paper)",
            "bordercolor": "var(--muted)",
            "font": {"family": "var(--sans)", "size": 13, "color": "var(--ink)"},
            "align": "left",
        },
        "showlegend": False,
        **more,
    }


def axis(**more: Any) -> dict[str, Any]:
    """What every axis looks like; more: its own keys."""
    return {
        "automargin": True,
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "var(--grid)",
        **more,
    }


def title(text: str) -> dict[str, Any]:
    """The title of an axis."""
    return {"text": text, "font": {"size": 13}}


def density_axis(first: float, last: float, nothing: float | None = None) -> dict[str, Any]:
    """Logarithmic, falling to the right. nothing: where density 0 is drawn, for which such an axis
    has no place.

    >>> density_axis(1.1, 0.01, nothing=0.012)["ticktext"][:3]
    ['0', '.02', '.05']
    """
    ticks = _log_ticks(last if nothing is None else nothing * 1.5, first)
    if nothing is not None:
        ticks["tickvals"] = [nothing, *ticks["tickvals"]]
        ticks["ticktext"] = ["0", *ticks["ticktext"]]
    return axis(
        range=[math.log10(first), math.log10(last)],
        title=title("density (fraction of weights kept)"),
        **ticks,
    )


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis with ticks at 1, 2 and 5 times the powers of ten.

    >>> _log_ticks(0.04, 1.1)["ticktext"]
    ['.05', '.1', '.2', '.5', '1']
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) < 6 else (1,)
    ticks = [float(f"{k}e{power}") for power in powers for k in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    texts = [f"{tick:.{max(0, -math.floor(math.log10(tick)))}f}" for tick in ticks]
    return {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [text.removeprefix("0") for text in texts],
    }
