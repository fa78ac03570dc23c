"""`--to packed`: the smallest file that gives the network back."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tombola.errors import CheckError, ShipError
from tombola.out.ship.files import deliver
from tombola.out.ship.format import Form, Format
from tombola.out.ship.packing import Packed
from tombola.out.ship.safetensors import FROZEN, NOT_MEASURED
from tombola.out.ship.shipment import Shipment, difference, held_bytes
from tombola.out.ship.speed import compared, inputs_of
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.world.calling import called
from tombola.world.world import World

ENDING = ".packed"
PLAIN = (
    "tombola.unpack(path) gives the state dict back; unpacked, the network is as large and as "
    "fast as the dense one."
)

SIGNED = "Kept weights of {} are plus or minus one number a tensor, and take a bit each."


def unpack(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a file written by `tombola ship --to packed`.

    Raises:
        ShipError: it cannot be read, is no such file, or was changed since.
    """
    return read_packed(path).state


def read_packed(path: str | Path) -> Packed:
    """The same with the mask, and what else the file says."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ShipError(f"{path} cannot be read: {error}.") from error
    return Packed.decode(raw, str(path))


def ship_packed(shipment: Shipment, precision: str = "float32") -> dict[str, Any]:
    """Write `<stem>.packed`; returns the document of `tombola ship --json`.

    In float32 the file gives every tensor back bit for bit. Otherwise kept weights are rounded, and
    the document says what that costs: the accuracy of the file beside that of the network.

    Raises:
        CheckError: the file does not give back what was packed; it is not kept.
        ShipError: weights that the precision cannot hold.
    """
    cargo = shipment.cargo
    packed = Packed(
        tensors=cargo.params,
        mask=shipment.mask,
        same=same_of(shipment.world),
        precision=precision,
        facts=shipment.facts(),
    )
    content = packed.encode()
    ending = ENDING if precision == "float32" else f".{precision}{ENDING}"
    target, found = shipment.target(ending), dict[str, Any]()

    def check(raw: bytes) -> dict[str, bool | None]:
        read = Packed.decode(raw, str(target))
        checks = _checks(packed, read)
        found.update(_found(shipment, read))
        return checks

    checks = deliver(content, target, check)
    notes = [PLAIN] if cargo.cuts_to_zero else [PLAIN, FROZEN]
    if packed.signs:
        notes.append(SIGNED.format(", ".join(sorted(packed.signs))))
    if shipment.world is None:
        notes.append(NOT_MEASURED)
    document = shipment.document(ending, content, checks, **found, notes=notes)
    return {**document, "format": "packed", "precision": precision}


def same_of(world: World | None) -> dict[str, str]:
    """Further names of tied tensors, and the name each is kept under."""
    if world is None:
        return {}
    first, same = dict[int, str](), dict[str, str]()
    for name, tensor in world.new_network(0).state_dict(keep_vars=True).items():
        if first.setdefault(id(tensor), name) != name:
            same[name] = first[id(tensor)]
    return same


def _checks(packed: Packed, read: Packed) -> dict[str, bool | None]:
    exact = packed.precision == "float32"
    checks: dict[str, bool | None] = {
        "tensors_equal": read.tensors.digest == packed.tensors.digest if exact else None,
        "mask_equal": read.mask.digest == packed.mask.digest,
        "cut_is_zero": packed.mask.apply(read.tensors).digest == read.tensors.digest,
        "rounded_alike": None if exact else _rounded_alike(packed, read),
    }
    for name, held in checks.items():
        if held is False:
            raise CheckError(f"{name} failed on the file written; it was not kept.")
    return checks


def _rounded_alike(packed: Packed, read: Packed) -> bool:
    """Whether every weight is within half a unit of the precision; all else bit for bit."""
    for name, tensor in packed.tensors.items():
        found = read.tensors[name]
        if tensor.dtype is not torch.float32 or tensor.dim() < 2:
            if not torch.equal(found, tensor):
                return False
            continue
        row = tensor.flatten(1).abs().amax(dim=1) if tensor.numel() else tensor.new_zeros(1)
        share = 0.502 / 127 if packed.precision == "int8" else 2.0**-11
        most = share * row + 2.0**-24
        if bool(((found - tensor).flatten(1).abs() > most[:, None]).any()):
            return False
    return True


def _found(shipment: Shipment, read: Packed) -> dict[str, Any]:
    """Accuracy and speed of what was read, loaded into a new network."""
    if shipment.world is None:
        return {}
    network = shipment.world.new_network(0)
    network.load_state_dict(read.state, strict=True)
    own, network = shipment.network(), network.eval()
    inputs = inputs_of(shipment.world, 64)
    with torch.no_grad():
        differ = difference(called(network, inputs), called(own, inputs))
    accuracy, before = shipment.accuracy(network), shipment.accuracy(own)
    return {
        "outputs": {
            "difference": differ,
            "tolerance": 0.0 if read.precision == "float32" else None,
        },
        "test_accuracy": accuracy,
        "network_accuracy": before,
        "accuracy_cost": None if accuracy is None or before is None else before - accuracy,
        "speed": compared(partial(called, network), own, shipment.world, shipment.batches),
    }


# -- the format ------------------------------------------------------------------------------


def _forms(world: World, params: Params, mask: Mask) -> dict[str, Form]:
    content = Packed(tensors=params, mask=mask, same=same_of(world)).encode()
    held = held_bytes(params)
    return {"packed": Form(compute=None, size=len(content), held=lambda _: held)}


PACKED = Format(name="packed", ship=ship_packed, forms=_forms)
