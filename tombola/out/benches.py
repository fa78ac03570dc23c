"""Measurements as a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.errors import CallError

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


def write_table(path: Path, measured: "Measured") -> None:
    """The table that `auto` is to choose by, as its file holds it.

    Raises:
        CallError: it cannot be written; a file that was there is as it was.
    """
    assert measured.table is not None
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(table_text(measured.table), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CallError(f"--out {path} cannot be written: {error}.") from error


def table_text(table: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line for each kernel.

    >>> print(table_text({"chains": {"c": [[60, 0.5]], "torch": []}, "layers": {}}), end="")
    {
      "chains": {
        "c": [[60, 0.5]],
        "torch": []
      },
      "layers": {
    <BLANKLINE>
      }
    }
    """
    parts = []
    for part, kernels in table.items():
        lines = [f'    "{name}": {json.dumps(rows)}' for name, rows in kernels.items()]
        parts.append(f'  "{part}": {{\n' + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
