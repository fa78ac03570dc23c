"""A ticket file: where a sparse network starts, to be trained elsewhere."""

from pathlib import Path
from typing import Any

from tombola.errors import CheckError
from tombola.out.ship.files import deliver
from tombola.values.ticket import Ticket

NOT_TRAINED = (
    "The file holds the start and the mask, no trained weights: build it with "
    "tombola.Ticket.load(path).build(Model)."
)


def ship_ticket(ticket: Ticket, stem: str, folder: Path) -> dict[str, Any]:
    """Write `<stem>.ticket.safetensors`; returns the document of `tombola ship --json`.

    Raises:
        CheckError: what was read back is another ticket; it is not kept.
    """
    target, content = folder / f"{stem}.ticket.safetensors", ticket.encode()

    def check(raw: bytes) -> dict[str, bool | None]:
        if Ticket.decode(raw, str(target)).digest != ticket.digest:
            raise CheckError("ticket_equal failed on the file written; it was not kept.")
        return {"ticket_equal": True}

    checks = deliver(content, target, check)
    return {
        "schema": 1,
        "path": str(target),
        "format": "ticket",
        "bytes": len(content),
        "density": ticket.provenance.get("density"),
        "checks": checks,
        "test_accuracy": None,
        "notes": [NOT_TRAINED],
    }
