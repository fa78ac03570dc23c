"""What `tombola gc` says: what could go, what stays and why."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tombola.lab.gc import Sweep, Why
from tombola.lab.store import Held, Store
from tombola.out.amounts import duration, several, size
from tombola.out.terminal import columns

if TYPE_CHECKING:
    from rich.console import Console

KINDS = {
    "studies": "records of the studies dropped",
    "probes": "what probes found of studies that are not stored",
    "reports": "pages of studies that are not stored",
    "calls": "results that no study needs",
    "objects": "tensors that no result names",
    "checkpoints": "states of trainings that are finished, or that no study needs",
    "legs": "early states of trainings that no study needs",
    "work": "notes of commands that have ended",
    "claims": "jobs once taken on",
    "damaged": "set aside, and since made again or lost",
    "temporary": "half-written, and left like that",
}


def account(store: Store, found: Sweep) -> dict[str, Any]:
    """The document that `tombola gc --json` prints, before anything is freed."""
    return {
        "schema": 1,
        "store": str(store.folder),
        "dropped": sorted(found.dropped),
        "going": _by((held, held.part) for held in found.going),
        "staying": _by((held, why.name.lower()) for held, why in found.staying),
        "interrupted": [
            {"study": command.study, "recipe": command.recipe, "world": command.world}
            for command in found.interrupted
        ],
        "damaged_studies": list(found.lost),
        "lost": {"steps": found.steps, "seconds": round(found.seconds, 3)},
        "freed_bytes": 0,
    }


def _by(files: Iterable[tuple[Held, str]]) -> dict[str, dict[str, int]]:
    """Number and bytes of files by kind."""
    sums: dict[str, dict[str, int]] = {}
    for held, kind in files:
        entry = sums.setdefault(kind, {"files": 0, "bytes": 0})
        entry["files"] += 1
        entry["bytes"] += held.bytes
    return sums


def show_account(console: "Console", document: Mapping[str, Any]) -> None:
    """What could go, by kind, and what that took to compute; what stays, and why."""
    going, lost = document["going"], document["lost"]
    if going:
        table = columns("could go", right=("files", "size"))
        table.add_column("")
        for kind, text in KINDS.items():
            if kind in going:
                table.add_row(kind, f"{going[kind]['files']:,}", size(going[kind]["bytes"]), text)
        console.print(table)
        total = sum(entry["bytes"] for entry in going.values())
        console.print(f"{size(total)} could go from {document['store']}.")
    else:
        console.print(f"Nothing could go from {document['store']}.")
    if lost["steps"]:
        console.print(
            f"The results among it took {several(lost['steps'], 'step')} and "
            f"{duration(lost['seconds'])}; a study that asks for them computes them again."
        )
    for reason, entry in document["staying"].items():
        console.print(f"{size(entry['bytes'])} stay: {Why[reason.upper()].value}.")
    for study in document["interrupted"]:
        name = study["study"][:12]
        console.print(
            f"Study {name}, {study['recipe']} on {study['world']}, was interrupted. Repeat its "
            f"`tombola find` or `tombola probe` to go on, or give it up with --drop {name}."
        )
    for digest in document["damaged_studies"]:
        name = digest[:12]
        console.print(
            f"The record of study {name} is damaged. Repeat its `tombola find`, which trains "
            f"nothing that is stored, or give it up with --drop {name}."
        )


def show_freed(console: "Console", document: Mapping[str, Any]) -> None:
    """What was freed."""
    console.print(f"{size(document['freed_bytes'])} freed in {document['store']}.")
