"""A bound of `tombola.theory` as a document, and for people: a table, and bars to look at."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tombola.out.terminal import columns
from tombola.theory import Pretraining

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BAR = 48  # characters of the longest bar
PLACES = 12  # steps at which a bar is drawn


def pretraining_document(bound: Pretraining, neurons: Sequence[int]) -> dict[str, Any]:
    """What `tombola theory pretraining --json` prints.

    rows: for each number of neurons the threshold and the bound there. curves: for each the bound
    from step 0 to twice the threshold, in its two parts.
    """
    return {
        "schema": 1,
        "theory": "pretraining",
        "initial_loss": bound.initial,
        "variance": bound.selection.variance,
        "first_loss": bound.selection.first,
        "rho": bound.rate.rho,
        "rows": [_row(bound, k) for k in neurons],
        "curves": [
            {"neurons": k, "points": [_point(bound, k, step) for step in _steps(bound, k)]}
            for k in neurons
        ],
        "assumptions": list(bound.assumptions),
    }


def _row(bound: Pretraining, k: int) -> dict[str, Any]:
    at = bound.threshold(k)
    return {
        "neurons": k,
        "threshold_step": at,
        "bound_at_threshold": bound.bound(k, at),
        "bound_at_start": bound.bound(k, 0),
        "least_bound": bound.selection.own(k),
    }


def _point(bound: Pretraining, k: int, step: int) -> dict[str, Any]:
    return {"step": step, "dense": bound.dense(k, step), "selection": bound.selection.own(k)}


def _steps(bound: Pretraining, k: int) -> list[int]:
    """Evenly from 0 to twice the threshold, which is one of them."""
    half, threshold = PLACES // 2, bound.threshold(k)
    return sorted({round(place * threshold / half) for place in range(PLACES + 1)})


def show_pretraining(console: "Console", document: Mapping[str, Any]) -> None:
    """Thresholds, then for the largest number of neurons the bound step by step."""
    console.print(
        f"How much pre-training is enough: rho {document['rho']:.4g}, initial loss "
        f"{document['initial_loss']:g}, variance of the neurons {document['variance']:g}",
        style="bold",
    )
    console.print()
    table = columns(right=("neurons", "threshold, steps", "bound there", "at step 0", "at best"))
    for row in document["rows"]:
        bounds = (row["bound_at_threshold"], row["bound_at_start"], row["least_bound"])
        at = (f"{row['neurons']:,}", f"{row['threshold_step']:,}")
        table.add_row(*at, *(f"{value:.4g}" for value in bounds))
    console.print(table)
    console.print()
    curve = max(document["curves"], key=lambda one: one["neurons"])
    console.print(f"bound on the loss of {curve['neurons']:,} neurons, by steps of pre-training:")
    for line in bars(curve["points"]):
        console.print(line)
    console.print("# what selection leaves, . what the whole network still loses", style="dim")
    console.print()
    console.print("It assumes that")
    console.print(listed(document["assumptions"]))


def listed(sentences: Sequence[str]) -> "Table":
    """A line for each, with a dash, and indented where it is longer than one."""
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    for sentence in sentences:
        table.add_row(" -", sentence)
    return table


def bars(points: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """A bar for each step: # for selection, . for the dense loss, to one scale.

    >>> for line in bars([{"step": 0, "dense": 3.0, "selection": 1.0},
    ...                   {"step": 1200, "dense": 1.0, "selection": 1.0}]):
    ...     print(line)
        0  ############....................................  4
    1,200  ############............  2
    """
    totals = [point["dense"] + point["selection"] for point in points]
    width = max(len(f"{point['step']:,}") for point in points)
    for point, total in zip(points, totals, strict=True):
        own = round(BAR * point["selection"] / max(totals))
        bar = "#" * own + "." * (round(BAR * total / max(totals)) - own)
        yield f"{point['step']:>{width},}  {bar}  {total:.3g}"
