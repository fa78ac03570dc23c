"""The formats a trained network can be shipped in."""

from collections.abc import Callable
from typing import Any

from tombola.errors import CallError
from tombola.out.ship.compact import ship_compact
from tombola.out.ship.onnx import check_installed, ship_onnx
from tombola.out.ship.packed import ship_packed
from tombola.out.ship.safetensors import ship_network
from tombola.out.ship.shipment import Shipment
from tombola.out.ship.sparse import links_for_shipping, ship_sparse
from tombola.world.world import World

_SHIPS: dict[str, Callable[[Shipment], dict[str, Any]]] = {
    "safetensors": lambda one: ship_network(one.cargo, one.world, one.folder),
    "sparse": ship_sparse,
    "compact": ship_compact,
    "onnx": ship_onnx,
}


def check_format(name: str, world: World | None) -> None:
    """Raise unless a network of this world can take the format; before anything is trained.

    Raises:
        CallError: it needs a world, or packages that are missing.
        ShipError: the network has an operator that the format lacks, as far as can be told.
        WorldError: its units are to be left out, and it cannot be traced.
    """
    if name in ("sparse", "onnx", "compact") and world is None:
        raise CallError(
            f"--to {name} needs the network and data to check the file with: name them --on WORLD."
        )
    if name == "onnx":
        check_installed()
    if name == "compact":
        assert world is not None
        _ = world.coupling
    if name == "sparse":
        assert world is not None
        links_for_shipping(world)


def ship_as(name: str, shipment: Shipment, precision: str) -> dict[str, Any]:
    """Write the file; returns the document of `tombola ship --json`."""
    if name == "packed":
        return ship_packed(shipment, precision)
    return _SHIPS[name](shipment)
