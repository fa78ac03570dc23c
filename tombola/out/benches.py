"""Measurements as a table."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.lab.bench.measure import Measured


def show_measured(console: "Console", measured: "Measured") -> None:
    """What was measured, on what, and what follows."""
    from rich.table import Table

    document = measured.as_json()
    console.print(f"{document['bench']} on {document['world']}: {document['about']}", style="bold")
    console.print()
    table = Table(box=None, pad_edge=False)
    for name, value in document["rows"][0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in document["rows"]:
        table.add_row(*map(_cell, row.values()))
    console.print(table)
    console.print()
    for note in document["notes"]:
        console.print(note)
    machine = document["machine"]
    console.print(
        f"{machine['processor']}, {machine['cores']} cores; kernel {machine['kernel']}; torch "
        f"{machine['torch']}",
        style="dim",
    )


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
