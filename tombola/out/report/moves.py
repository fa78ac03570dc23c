"""Where moving masks have been: coverage, input units in use, births and deaths, and what it cost.

All of it is what trainings noted down at their updates, read from the store.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import prod
from typing import Any, TypeAlias

from tombola.lab.statistics import summarise
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET
from tombola.out.report.figures import (
    COLOURS,
    SYMBOLS,
    Figure,
    Style,
    axis,
    layout,
    styles_of,
    title,
)
from tombola.pieces.dynamics import COLUMNS
from tombola.recipes.jobs import Trained

Rows: TypeAlias = Sequence[Sequence[int]]
"""Of one tensor: rows of `COLUMNS`, its start first."""

Place: TypeAlias = tuple[str, int]
"""Arm and round."""

MOST_MARKS = 120  # at which a chart of one training says anything

STEP, KEPT, BORN, DIED, SEEN, INPUTS = map(
    COLUMNS.index, ("step", "kept", "born", "died", "seen", "inputs")
)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One training: its rows by tensor, the weights of each tensor, and how many steps it took."""

    rows: Mapping[str, Rows]
    kept: Mapping[str, int]
    end: int


def moves_in(study: Study) -> dict[str, Any] | None:
    """What the page says and draws of masks that moved; None where none did.

    Of each arm, at each round: `coverage`, the fraction of all positions kept at any time so far;
    `inputs`, the input units of the first layer that anything kept reads; `born` and `died`,
    connections of each layer at each update, as a fraction of those kept. Means over seeds.
    """
    layers = {layer["name"]: prod(layer["shape"]) for layer in study.facts["about"]["layers"]}
    of = _trainings(study)
    if not of:
        return None
    arms = list(dict.fromkeys(arm for arm, _ in of))
    styles, first = styles_of([TICKET, *study.facts["arms"]]), next(iter(layers))
    drawn: dict[str, dict[str, list[Figure]]] = {"coverage": {}, "inputs": {}}
    drawn |= {f"arm {arm}": {} for arm in arms}
    for (arm, number), seeds in of.items():
        frame, style = str(number), styles[arm]
        covered = _line(seeds, lambda one, step: _coverage(one, layers, step), style, arm)
        read = _line(seeds, lambda one, step: _at(one.rows.get(first), step, INPUTS), style, arm)
        drawn["coverage"].setdefault(frame, []).append(covered)
        drawn["inputs"].setdefault(frame, []).append(read)
        drawn[f"arm {arm}"][frame] = _exchanged(seeds, list(layers))
    end = max(one.end for seeds in of.values() for one in seeds)
    return {
        "arms": arms,
        "first": first,
        "figures": {
            name: {"layout": _layout(end, name.startswith("arm ")), "frames": frames}
            for name, frames in drawn.items()
        },
    }


def _trainings(study: Study) -> dict[Place, list[Moved]]:
    """Those whose mask moved, by arm and round; a seed's first draw."""
    found: dict[Place, list[Moved]] = {}
    for trial in study.facts["trials"]:
        trained = study.store.recall(trial["call"], Trained) if trial["draw"] == 0 else None
        if trained is not None and trained.moves:
            moved = Moved(rows=trained.moves, kept=trial["kept"], end=trained.step)
            found.setdefault((trial["arm"], trial["round"]), []).append(moved)
    return found


def _at(rows: Rows | None, step: int, column: int) -> float | None:
    """What a column held after the last update up to a step; None of a tensor that never moved."""
    passed = [row for row in rows or () if row[STEP] <= step]
    return float(passed[-1][column]) if passed else None


def _coverage(one: Moved, layers: Mapping[str, int], step: int) -> float:
    """R_s at a step; a tensor whose mask never moved counts with what it keeps."""
    seen = 0.0
    for name in layers:
        known = _at(one.rows.get(name), step, SEEN)
        seen += one.kept.get(name, 0) if known is None else known
    return seen / sum(layers.values())


def _marks(seeds: Sequence[Moved]) -> list[int]:
    """Steps of updates of any seed and tensor, in order, the last among them; of very many some."""
    steps = sorted({row[STEP] for one in seeds for rows in one.rows.values() for row in rows[1:]})
    every = -(-len(steps) // MOST_MARKS)
    return steps[::-1][:: max(1, every)][::-1]


def _line(
    seeds: Sequence[Moved],
    value: Callable[[Moved, int], float | None],
    style: Style,
    arm: str,
) -> Figure:
    """A stair: what holds after an update holds until the next."""
    steps, means, labels = [0, *_marks(seeds)], list[float | None](), list[str]()
    steps.append(max(one.end for one in seeds))
    for step in steps:
        of = summarise([value(one, step) for one in seeds])
        means.append(of.mean)
        bounds = "" if of.low is None else f" [{of.low:,.4g}, {of.high:,.4g}]"
        mean = "none" if of.mean is None else f"{of.mean:,.4g}"
        labels.append(f"{mean}{bounds}, n = {len(seeds)}")
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escape(arm, quote=False),
        "legendgroup": arm,
        "x": steps,
        "y": means,
        "line": {"color": style.colour, "width": 1.6, "dash": style.dash, "shape": "hv"},
        "text": labels,
        "hovertemplate": f"<b>{escape(arm, quote=False)}</b>, step %{{x}}<br>%{{text}}"
        "<extra></extra>",
    }


def _exchanged(seeds: Sequence[Moved], layers: Sequence[str]) -> list[Figure]:
    """Births above zero and deaths below it, a line for each layer: since the mark before, as a
    fraction of the connections there were, or are where these are more."""
    marks, traces = _marks(seeds), []
    for place, name in enumerate(layers):
        born, died = [0.0] * len(marks), [0.0] * len(marks)
        for one in seeds:
            for before, row in pairwise(one.rows.get(name, ())):
                mark, share = bisect_left(marks, row[STEP]), max(before[KEPT], row[KEPT], 1)
                born[mark] += row[BORN] / share / len(seeds)
                died[mark] -= row[DIED] / share / len(seeds)
        for heights, said in ((born, "born"), (died, "died")):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": escape(name, quote=False),
                    "legendgroup": f"layer {name}",  # which no arm hides
                    "showlegend": said == "born",
                    "x": marks,
                    "y": [float(f"{height:.5g}") for height in heights],
                    "line": {"color": f"var(--arm-{place % COLOURS + 1})", "width": 1.2},
                    "marker": {
                        "color": f"var(--arm-{place % COLOURS + 1})",
                        "symbol": SYMBOLS[place % len(SYMBOLS)],
                        "size": 5,
                    },
                    "hovertemplate": f"<b>{escape(name, quote=False)}</b>, step %{{x}}<br>{said}: "
                    "%{y:.3f} of its connections<extra></extra>",
                }
            )
    return traces


def _layout(end: int, by_layer: bool) -> dict[str, Any]:
    across = axis(range=[0, 1.02 * end], tickformat=",", title=title("optimiser steps"))
    up = axis(rangemode="tozero")
    if by_layer:
        up = axis(zeroline=True, zerolinecolor="var(--muted)", title=title("died (below 0), born"))
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    return layout(xaxis=across, yaxis=up, showlegend=True, legend=legend)


# -- what it cost -------------------------------------------------------------------------------


def costs_in(study: Study) -> list[dict[str, Any]]:
    """Of each arm and round what training it multiplied, the whole network's training being 1, and
    how long it took; none of a study in which no mask moves."""
    of: dict[Place, list[Mapping[str, Any]]] = {}
    for trial in study.facts["trials"]:
        if trial.get("products") is not None:
            of.setdefault((trial["arm"], trial["round"]), []).append(trial)
    return [
        {
            "arm": arm,
            "round": number,
            "density": trials[0]["density"],
            "products": _said([trial["products"] for trial in trials], ".3f"),
            "seconds": _said([_seconds(study, trial["call"]) for trial in trials], ",.3g"),
            "executors": ", ".join(sorted({trial["executor"] for trial in trials})),
            "n": len({trial["seed"] for trial in trials}),
        }
        for (arm, number), trials in of.items()
    ]


def _seconds(study: Study, call: str) -> float | None:
    context = study.store.context(call)
    return None if context is None else float(context["seconds"])


def _said(values: Sequence[float | None], how: str) -> str:
    """A mean with its 95 % interval."""
    of = summarise(values)
    if of.mean is None:
        return "none"
    bounds = "" if of.low is None else f" [{of.low:{how}}, {of.high:{how}}]"
    return f"{of.mean:{how}}{bounds}"
