"""`--to compact`: the network without the units that do nothing, as a smaller plain module."""

import hashlib
import re
from contextlib import suppress
from io import BytesIO
from typing import Any

import torch
from safetensors.torch import load as decode_tensors
from torch import nn

from tombola.errors import CheckError, ShipError
from tombola.out.ship.elsewhere import Elsewhere
from tombola.out.ship.exporting import quietly, reason_of
from tombola.out.ship.files import deliver
from tombola.out.ship.shipment import EXAMPLES, Shipment
from tombola.out.ship.smaller import Smaller, smaller
from tombola.out.ship.source import NoSourceError, Source
from tombola.out.ship.speed import inputs_of
from tombola.values.params import Params
from tombola.values.tensors import encode_tensors
from tombola.world.batch import nested

ENDING = ".compact.safetensors"
PROGRAM = ".compact.pt2"
TOLERANCE = 1e-5
PAGED = "Import the page and call load(): it needs torch alone. Inputs as prepared by the world."
EXPORTED = (
    "torch.export.load(path).module() runs it, without the network's code ({reason}); it was "
    "loaded in a process of its own. Speed is that of the program before it was written. Inputs as "
    "prepared by the world."
)


SLOWER = "Dense is faster at batch {}: the smaller network pays there in size alone."


def compacted(shipment: Shipment) -> Smaller:
    """The network to be shipped without the units that do nothing.

    Raises:
        ShipError: there are none, or its forward pass counts on them.
        WorldError: it cannot be traced.
    """
    assert shipment.world is not None
    inputs = inputs_of(shipment.world, EXAMPLES)
    return smaller(shipment.network(), shipment.world.coupling, inputs)


def ship_compact(shipment: Shipment) -> dict[str, Any]:
    """Write the smaller network; returns the document of `tombola ship --json`.

    A network in layers and functions of torch becomes a page of Python (`<stem>_compact.py`) and
    its weights (`<stem>.compact.safetensors`), any other an exported program
    (`<stem>.compact.pt2`).

    Raises:
        CheckError: the files compute something else; they are not kept.
        ShipError: there is nothing to leave out, or the network cannot be exported.
    """
    found = compacted(shipment)
    try:
        source = Source(found.network)
    except NoSourceError as reason:
        return _program(shipment, found, str(reason))
    return _page(shipment, found, source)


def units_line(found: Smaller) -> str:
    """What is left, in words."""
    now, before = (sum(column) for column in zip(*found.left.values(), strict=True))
    most = [f"{name} {a} of {b}" for name, (a, b) in found.left.items() if a < b]
    more = f", and {len(most) - 6} more sets" if len(most) > 6 else ""
    return f"{now:,} of {before:,} units are left: {', '.join(most[:6])}{more}."


def _units(found: Smaller) -> dict[str, Any]:
    return {"units": {name: {"kept": a, "total": b} for name, (a, b) in found.left.items()}}


def _slower(results: dict[str, Any]) -> list[str]:
    return [SLOWER.format(row["batch"]) for row in results["speed"] if row["high"] < 1.0]


def _page(shipment: Shipment, found: Smaller, source: Source) -> dict[str, Any]:
    tensors = source.tensors()
    content, target = encode_tensors(tensors, {}), shipment.target(ENDING)
    about = f"{type(found.network).__name__} as written by tombola ship: {units_line(found)}"
    page = source.page(about, target.name, hashlib.sha256(content).hexdigest())
    named = re.sub(r"\W", "_", shipment.cargo.stem)
    beside = target.with_name(f"{named}_compact.py")
    results = dict[str, Any]()

    def check_weights(raw: bytes) -> dict[str, bool | None]:
        if Params(decode_tensors(raw)).digest != Params(dict(sorted(tensors.items()))).digest:
            raise CheckError("tensors_equal failed on the file written; it was not kept.")
        return {"tensors_equal": True}

    def check_page(raw: bytes) -> dict[str, bool | None]:
        network = imported(raw.decode(), target.read_bytes())
        results.update(shipment.found(network, TOLERANCE))
        return {"outputs_equal": True}

    checks = deliver(content, target, check_weights)
    try:
        checks |= deliver(page.encode(), beside, check_page)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
    notes = [PAGED, units_line(found), *_slower(results)]
    return {
        **shipment.document(ENDING, content, checks, **results, notes=notes),
        **_units(found),
        "format": "compact",
        "source": str(beside),
        "source_bytes": len(page.encode()),
    }


def imported(page: str, weights: bytes) -> nn.Module:
    """The network of a page, with weights from these bytes; in a namespace of its own."""
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(compile(page, "page", "exec"), namespace)
    network: nn.Module = namespace["build"](weights)
    return network


def _program(shipment: Shipment, found: Smaller, reason: str) -> dict[str, Any]:
    assert shipment.world is not None
    network, inputs = found.network, inputs_of(shipment.world, 2)
    program = exported(network, inputs)
    written = BytesIO()
    torch.export.save(program, written)
    content, results = written.getvalue(), dict[str, Any]()
    with torch.no_grad():
        like = network(inputs)

    def check(raw: bytes) -> dict[str, bool | None]:
        with Elsewhere(raw, like) as elsewhere:
            own = program.module()
            results.update(shipment.found(elsewhere, TOLERANCE, timed=own))
        return {"outputs_equal": True, "loads_elsewhere": True}

    checks = deliver(content, shipment.target(PROGRAM), check)
    notes = [EXPORTED.format(reason=reason), units_line(found), *_slower(results)]
    document = shipment.document(PROGRAM, content, checks, **results, notes=notes)
    return {**document, **_units(found), "format": "compact", "source": None}


def exported(network: nn.Module, inputs: Any) -> torch.export.ExportedProgram:
    """The network as a program of torch's operators, for any number of examples.

    Raises:
        ShipError: it cannot be exported.
    """
    examples = torch.export.Dim("examples", min=1)
    shapes = nested(lambda tensor: {0: examples}, inputs)
    try:
        with quietly():
            return torch.export.export(
                network.eval(), (inputs,), dynamic_shapes=(shapes,), strict=False
            )
    except Exception as error:
        raise ShipError(
            f"--to compact: {type(network).__name__} cannot be exported: {reason_of(error)}."
        ) from error
