"""The formats a trained network can be shipped in."""

from typing import Any

from tombola.errors import CallError
from tombola.out.ship.compact import COMPACT
from tombola.out.ship.format import Format
from tombola.out.ship.onnx import ONNX
from tombola.out.ship.packed import PACKED
from tombola.out.ship.safetensors import SAFETENSORS
from tombola.out.ship.shipment import Shipment
from tombola.out.ship.sparse import SPARSE
from tombola.world.world import World

FORMATS = {one.name: one for one in (SAFETENSORS, PACKED, SPARSE, COMPACT, ONNX)}


def check_format(name: str, world: World | None) -> None:
    """Raise unless a network of this world can take the format; before anything is trained.

    Raises:
        CallError: it needs a world, or packages that are missing.
        ShipError: the network has an operator that the format lacks, as far as can be told.
        WorldError: its units are to be left out, and it cannot be traced.
    """
    of: Format = FORMATS[name]
    if world is not None:
        of.check(world)
    elif of.needs_world:
        raise CallError(
            f"--to {name} needs the network and data to check the file with: name them --on WORLD."
        )


def ship_as(name: str, shipment: Shipment, precision: str) -> dict[str, Any]:
    """Write the file; returns the document of `tombola ship --json`."""
    return FORMATS[name].ship(shipment, precision)
