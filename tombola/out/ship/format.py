"""What a format of shipped networks is, for `tombola ship` and `tombola bench ship` alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tombola.out.ship.shipment import Shipment
from tombola.out.ship.speed import Compute
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to compute with a file of a format.

    compute: of the batch as the world prepares it; None where the file is loaded into the dense
    network, which then computes as ever. size: bytes of the file. held: bytes of weights
    and places that a pass over so many examples reads; what it makes on the way does not count.
    """

    compute: Compute | None
    size: int
    held: Callable[[int], int]


Forms = Callable[[World, Params, Mask], Mapping[str, Form]]


def anything(world: World) -> None:
    """Nothing to check: the format takes every network."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How a network is written, and computed with afterwards.

    ship: writes the file; the precision is "float32" unless the format takes others. forms: name ->
    what computes with the file of these tensors under this mask; the first has the format's name,
    others are the same file read by other libraries. check: raises where the network cannot take
    the format, or a package is missing, as far as can be told before anything is trained.
    needs_world: whether the file cannot be checked without the network.
    """

    name: str
    ship: Callable[[Shipment, str], dict[str, Any]]
    forms: Forms
    check: Callable[[World], None] = anything
    needs_world: bool = False
