"""A sparse network as a plain safetensors state dict: names unchanged, cut weights as they are."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load as decode_tensors
from torch import Tensor, nn

from tombola.errors import CheckError
from tombola.out.ship.cargo import Cargo
from tombola.out.ship.files import deliver
from tombola.out.ship.format import Form, Format
from tombola.out.ship.shipment import held_bytes
from tombola.train.evaluate import evaluate
from tombola.train.select import Selection
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.tensors import encode_tensors
from tombola.values.ticket import Ticket
from tombola.world.world import World

NOT_SMALLER = (
    "The file holds every zero, so it is as large as the dense network's; it is for use "
    "anywhere, not for saving space."
)
FROZEN = (
    "What is cut was frozen, not set to zero: all weights count, so the file is as large as the "
    "dense network's and no zeros can be left out."
)
NOT_MEASURED = (
    "Its test accuracy was not measured, since its world has no name here; give it with --on."
)


def ship_network(cargo: Cargo, world: World | None, folder: Path) -> dict[str, Any]:
    """Write `<stem>.safetensors` into a folder; returns the document of `tombola ship --json`.

    The file is read back before it gets its name: the tensors equal the network's bit for bit, cut
    weights are +0.0 unless they were frozen, and where the world is known it loads into the network
    and has the test accuracy that was recorded.

    Raises:
        CheckError: the file is not what it should be; it is not kept.
        TicketError: the network does not fit the world's.
    """
    tensors = state_of(cargo, world)
    target = folder / f"{cargo.stem}.safetensors"
    content = encode_tensors(tensors, _metadata(cargo))
    checks, accuracy = deliver(content, target, lambda raw: _checked(raw, tensors, cargo, world))
    size = NOT_SMALLER if cargo.cuts_to_zero else FROZEN
    return {
        "schema": 1,
        "path": str(target),
        "format": "safetensors",
        "bytes": len(content),
        "density": cargo.provenance.get("density"),
        "checks": checks,
        "test_accuracy": accuracy,
        "notes": [size] if world or not cargo.trained else [size, NOT_MEASURED],
    }


def state_of(cargo: Cargo, world: World | None) -> dict[str, Tensor]:
    """All tensors by name. A tensor shared by two names is there twice if the world is known, as
    `load_state_dict` wants it."""
    if world is None:
        found = dict(cargo.params)
    else:
        # Not trained on from here: the ticket form only fits the tensors into a new network.
        ticket = Ticket(init=cargo.params, mask=FULL, start_step=0)
        network = ticket.build(partial(world.new_network, 0))
        found = network.state_dict()
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in found.items()}


def _metadata(cargo: Cargo) -> dict[str, str]:
    facts = {"schema": 1, "trained": cargo.trained, **cargo.provenance}
    return {"format": "pt", **{f"tombola.{key}": json.dumps(value) for key, value in facts.items()}}


def _checked(
    raw: bytes, tensors: dict[str, Tensor], cargo: Cargo, world: World | None
) -> tuple[dict[str, bool | None], float | None]:
    """What was found on the bytes of the file, and its test accuracy where that can be measured."""
    read = decode_tensors(raw)
    own = Params({name: read[name] for name in cargo.params if name in read})
    checks: dict[str, bool | None] = {
        "tensors_equal": own.digest == cargo.params.digest
        and Params(read).digest == Params(tensors).digest,
        "cut_is_zero": _cut_is_zero(read, cargo.mask) if cargo.cuts_to_zero else None,
        "loads": None,
        "test_accuracy_equal": None,
    }
    accuracy = None
    if world is not None:
        network = world.new_network(0)
        network.load_state_dict(read, strict=True)
        checks["loads"] = True
        accuracy = _accuracy(network, world) if cargo.trained else None
        if cargo.recorded is not None and accuracy is not None:
            checks["test_accuracy_equal"] = accuracy == cargo.recorded
    for name, held in checks.items():
        if held is False:
            raise CheckError(_what_failed(name, cargo, world, accuracy))
    return checks, accuracy


def _cut_is_zero(tensors: Mapping[str, Tensor], mask: Mask) -> bool:
    return all(
        Selection(kept, tensors[name].dtype).cut_is_zero(tensors[name])
        for name, kept in mask.items()
    )


def _accuracy(network: nn.Module, world: World) -> float | None:
    with world.numerics.in_force():
        return evaluate(network, world, world.test).get("accuracy")


def _what_failed(name: str, cargo: Cargo, world: World | None, accuracy: float | None) -> str:
    if name != "test_accuracy_equal":
        return f"{name} failed on the file written; it was not kept."
    assert world is not None
    return (
        f"test_accuracy_equal failed: the file has a test accuracy of {accuracy} on world "
        f"{world.name!r}, {cargo.recorded} was recorded; it was not kept. Data or code of the "
        "world changed, or it is another world: name the one it was trained on with --on."
    )


# -- the format ------------------------------------------------------------------------------


def _forms(world: World, params: Params, mask: Mask) -> dict[str, Form]:
    cargo = Cargo(params=params, mask=mask, stem="", provenance={}, trained=False)
    content = encode_tensors(state_of(cargo, world), _metadata(cargo))
    held = held_bytes(params)
    return {"safetensors": Form(compute=None, size=len(content), held=lambda _: held)}


SAFETENSORS = Format(
    name="safetensors",
    ship=lambda one, _: ship_network(one.cargo, one.world, one.folder),
    forms=_forms,
)
