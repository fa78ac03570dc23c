"""What a probe found, for people: in a terminal and, as HTML and charts, in the study's report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tombola.out.amounts import duration, several
from tombola.out.terminal import checks_line, columns, fraction, grid, mean_of

if TYPE_CHECKING:
    from rich.console import Console

BESIDE = ("n", "metrics")  # what a row has beside its place


def show_probe(console: "Console", document: Mapping[str, Any]) -> None:
    """The tables that are meant for it, what must be said beside them, and what it cost."""
    seeds, cost = ", ".join(map(str, document["seeds"])), document["cost"]
    console.print(
        f"{document['probe']} of {document['recipe']} on {document['world']}, seeds {seeds}",
        style="bold",
    )
    for table in document["tables"]:
        if table["printed"]:
            console.print()
            _show_table(console, table)
    console.print()
    one = len(document["seeds"]) == 1
    said = "n = 1: there is no interval." if one else "In brackets: 95 % intervals over n seeds."
    for note in (said, *document["notes"]):
        console.print(note, style="dim")
    console.print()
    lines = {
        "checks": checks_line(document["checks"]),
        "cost": f"{several(cost['steps_trained'], 'step')} trained, {cost['steps_reused']:,} taken "
        f"from the store, in {duration(cost['seconds'])}",
        "study": f"{document['study'][:12]} in {document['store']}",
    }
    console.print(grid({name: text for name, text in lines.items() if text}))
    if document.get("report"):
        console.print(f"report  {document['report']}", soft_wrap=True)  # whole, to be copied


def _show_table(console: "Console", table: Mapping[str, Any]) -> None:
    """A row for each place; what is the same in all of them stands above."""
    rows = table["rows"]
    varying, same = split_columns(rows)
    console.print(with_same(table["title"], same), style="bold")
    printed = columns(*varying[:1], right=(*varying[1:], *map(titled, table["printed"]), "n"))
    for row in rows:
        printed.add_row(
            *(said(column, row[column]) for column in varying),
            *(cell(name, row["metrics"][name]) for name in table["printed"]),
            count(row, table["printed"]),
        )
    console.print(printed)


def split_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], dict[str, Any]]:
    """The columns in which rows differ, and what they have in common.

    >>> split_columns([{"arm": "ticket", "step": 0, "n": 3}, {"arm": "ticket", "step": 9, "n": 3}])
    (['step'], {'arm': 'ticket'})
    """
    names = [name for name in rows[0] if name not in BESIDE] if rows else []
    varying = [name for name in names if any(row[name] != rows[0][name] for row in rows)]
    return varying, {name: rows[0][name] for name in names if name not in varying}


def with_same(title: str, same: Mapping[str, Any]) -> str:
    """A title, and what is the same in all rows.

    >>> with_same("Barriers", {"noise": "both"})
    'Barriers (noise both)'
    """
    parts = ", ".join(f"{titled(name)} {said(name, value)}" for name, value in same.items())
    return f"{title} ({parts})" if parts else title


def titled(name: str) -> str:
    """A column's or metric's name for people.

    >>> titled("error_barrier")
    'error barrier'
    """
    return name.replace("_", " ")


def said(column: str, value: str | float) -> str:
    """What a column holds.

    >>> said("step", 2000), said("density", 0.1122), said("share", 0.2), said("arm", "ticket")
    ('2,000', '.1122', '0.2', 'ticket')
    """
    if isinstance(value, str):
        return value
    if column == "density":
        return fraction(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def cell(metric: str, of: Mapping[str, Any]) -> str:
    """A metric with its interval: whole steps, else three places.

    >>> cell("onset_step", {"mean": 1234.5, "low": None, "high": None})
    '1,234 (no interval)'
    >>> cell("error_barrier", {"mean": 0.0123, "low": -0.0031, "high": 0.0277})
    '.012 [-.003, .028]'
    """
    return mean_of(of, "{:,.0f}".format if metric.endswith("step") else three)


def three(value: float) -> str:
    """Three places, without the zero in front.

    >>> three(0.0123), three(-0.0004), three(1.0)
    ('.012', '.000', '1.000')
    """
    text = f"{round(value, 3) + 0.0:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def count(row: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """How many seeds a row is over, and of how many.

    >>> count({"n": 3, "metrics": {"onset_step": {"values": [0, None, 4]}}}, ["onset_step"])
    '2 of 3'
    """
    values = row["metrics"][metrics[0]]["values"]
    known = sum(value is not None for value in values)
    return str(row["n"]) if known == row["n"] else f"{known} of {row['n']}"
