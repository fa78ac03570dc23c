"""What probes of a study found, as sections of its report: charts and the tables they print."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tombola.lab.study import Study
from tombola.lab.verdict import TICKET
from tombola.out.probing import cell, count, said, split_columns, titled, with_same
from tombola.out.report.figures import (
    COLOURS,
    DASHES,
    SYMBOLS,
    Figure,
    Style,
    axis,
    density_axis,
    layout,
    styles_of,
    title,
)


def probes_of(study: Study) -> list[dict[str, Any]]:
    """Each stored probe of a study: its words, tables and figures."""
    arms = [TICKET, *study.facts["arms"]]
    return [_section(found["document"], arms) for found in study.store.probes(study.digest)]


def _section(document: Mapping[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    tables = {table["name"]: table["rows"] for table in document["tables"]}
    charts = document["charts"]
    return {
        "name": document["probe"],
        "summary": document["summary"],
        "source": document["source"],
        "settings": document["settings"],
        "notes": document["notes"],
        "n": len(document["seeds"]),
        "tables": [_table(table) for table in document["tables"] if table["printed"]],
        "titles": [chart["title"] for chart in charts],
        "figures": [figure_of(chart, tables[chart["table"]], arms) for chart in charts],
    }


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Cells as text; what is the same in all rows stands in the title."""
    rows, printed = table["rows"], table["printed"]
    varying, same = split_columns(rows)
    return {
        "title": with_same(table["title"], same),
        "head": [*map(titled, varying), *map(titled, printed), "n"],
        "rows": [
            [
                *(said(column, row[column]) for column in varying),
                *(cell(metric, row["metrics"][metric]) for metric in printed),
                count(row, printed),
            ]
            for row in rows
        ],
    }


def figure_of(
    chart: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], arms: Sequence[str]
) -> Figure:
    """A probe's chart as a figure: means as points with their 95 % intervals, lines between."""
    shown = [
        row
        for row in rows
        if all(row[column] == value for column, value in chart["where"].items())
        and row["metrics"][chart["y"]]["mean"] is not None
    ]
    lines = list(dict.fromkeys(row[chart["line"]] for row in shown))
    styles = _styles(chart["line"], lines, arms)
    traces = [
        _trace(chart, value, [row for row in shown if row[chart["line"]] == value], style)
        for value, style in zip(lines, styles, strict=True)
    ]
    by_density = chart["x"] == "density" and shown
    places = [row[chart["x"]] for row in shown]
    across = (
        density_axis(1.15 * max(places), min(places) / 1.15)
        if by_density
        else axis(title=title(titled(chart["x"])), **_even(chart["x"], places))
    )
    return {
        "data": traces,
        "layout": layout(
            xaxis=across,
            yaxis=axis(title=title(titled(chart["y"]))),
            **_level(chart["level"]),
            showlegend=True,
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        ),
    }


def _even(column: str, places: Sequence[Any]) -> dict[str, Any]:
    """Steps stand side by side at even distances, as published: the early ones lie close."""
    if column != "step":
        return {}
    return {"type": "category", "categoryorder": "array", "categoryarray": sorted(set(places))}


def _styles(line: str, values: Sequence[Any], arms: Sequence[str]) -> list[Style]:
    """Arms look as in the study's other charts; what else a line stands for, by its place."""
    if line == "arm":
        known = styles_of([*arms, *(v for v in values if v not in arms)])
        return [known[value] for value in values]
    return [
        Style(
            colour=f"var(--arm-{place % COLOURS + 1})",
            symbol=SYMBOLS[place % len(SYMBOLS)],
            dash=("solid", *DASHES)[place % (1 + len(DASHES))],
        )
        for place in range(len(values))
    ]


def _trace(
    chart: Mapping[str, Any], value: Any, rows: Sequence[Mapping[str, Any]], style: Style
) -> Figure:
    metrics = [row["metrics"][chart["y"]] for row in rows]
    name = escape(said(chart["line"], value), quote=False)
    if chart["line"] != "arm":
        name = f"{titled(chart['line'])} {name}"
    halves = [0.0 if of["low"] is None else of["high"] - of["mean"] for of in metrics]
    crowded = len(rows) > CROWDED
    return {
        "type": "scatter",
        "mode": "lines" if crowded else "lines+markers",
        "name": name,
        "legendgroup": str(value) if chart["line"] == "arm" else name,
        "x": [row[chart["x"]] for row in rows],
        "y": [of["mean"] for of in metrics],
        **({} if crowded else {"error_y": _bars(halves, style)}),
        "line": {"color": style.colour, "width": 1.4, "dash": style.dash},
        "marker": {"color": style.colour, "symbol": style.symbol or "circle", "size": 7},
        "text": [_label(chart, row) for row in rows],
        "hovertemplate": f"<b>{name}</b><br>%{{text}}<extra></extra>",
    }


CROWDED = 12  # points, above which a line has no bars: they would hide one another


def _bars(halves: Sequence[float], style: Style) -> dict[str, Any]:
    return {
        "type": "data",
        "array": list(halves),
        "color": style.colour,
        "thickness": 1.2,
        "width": 3,
    }


def _label(chart: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Where a point is, and its number with interval and n."""
    metric, x = chart["y"], chart["x"]
    return (
        f"{titled(x)} {said(x, row[x])}<br>{titled(metric)} "
        f"{cell(metric, row['metrics'][metric])}, n = {count(row, [metric])}"
    )


def _level(level: Sequence[Any] | None) -> dict[str, Any]:
    """A horizontal line with its name, where a chart has one."""
    if level is None:
        return {}
    height, name = level
    line = {"color": "var(--muted)", "width": 1, "dash": "dot"}
    ends = {"xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": height, "y1": height}
    said_of = {"text": escape(name, quote=False), "showarrow": False, "xanchor": "right"}
    at = {"xref": "paper", "yref": "y", "x": 1, "y": height, "yanchor": "bottom"}
    font = {"color": "var(--muted)", "size": 12}
    return {
        "shapes": [{"type": "line", **ends, "line": line, "layer": "below"}],
        "annotations": [{**said_of, **at, "font": font}],
    }
