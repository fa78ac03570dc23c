"""`--to compact`: the network without the units that do nothing, as a smaller plain module."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import partial, wraps
from io import BytesIO
from typing import Any

import torch
from safetensors.torch import load as decode_tensors
from torch import nn

from tombola.errors import CheckError, ShipError
from tombola.out.ship.elsewhere import Elsewhere
from tombola.out.ship.exporting import quietly, reason_of
from tombola.out.ship.files import deliver
from tombola.out.ship.format import Form, Format
from tombola.out.ship.shipment import EXAMPLES, Shipment, held_bytes
from tombola.out.ship.smaller import Smaller, smaller
from tombola.out.ship.source import NoSourceError, Source
from tombola.out.ship.speed import inputs_of
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.tensors import encode_tensors
from tombola.world.batch import nested
from tombola.world.calling import arguments, called
from tombola.world.world import World

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
    return without_idle(shipment.world, shipment.network())


def without_idle(world: World, network: nn.Module) -> Smaller:
    """A world's network without the units that do nothing; raises as `compacted`."""
    return smaller(network, world.coupling, inputs_of(world, EXAMPLES))


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
        like = called(network, inputs)

    def check(raw: bytes) -> dict[str, bool | None]:
        with Elsewhere(raw, network, like) as elsewhere:
            own = program.module()

            def timed(inputs: Any) -> Any:
                args, named = arguments(network, inputs)
                return own(*args, **named)

            results.update(shipment.found(elsewhere, TOLERANCE, timed=timed))
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
    args, named = arguments(network, inputs)
    shapes = nested(lambda tensor: {0: examples}, named or args)
    try:
        with quietly(), plain_outputs(network):
            return torch.export.export(
                network.eval(), args, named, dynamic_shapes=shapes, strict=False
            )
    except Exception as error:
        raise ShipError(
            f"--to compact: {type(network).__name__} cannot be exported: {reason_of(error)}."
        ) from error


@contextmanager
def plain_outputs(network: nn.Module) -> Iterator[None]:
    """While this is held a network gives dicts in the place of records, which a process without
    its library could not read back."""
    forward = network.forward

    @wraps(forward)
    def plainly(*args: Any, **named: Any) -> Any:
        return _plain(forward(*args, **named))

    vars(network)["forward"] = plainly
    try:
        yield
    finally:
        del vars(network)["forward"]


def _plain(outputs: Any) -> Any:
    if is_dataclass(outputs):
        outputs = {one.name: getattr(outputs, one.name) for one in fields(outputs)}
    if isinstance(outputs, dict):
        return {name: _plain(part) for name, part in outputs.items() if part is not None}
    return outputs


# -- the format ------------------------------------------------------------------------------


def _forms(world: World, params: Params, mask: Mask) -> Mapping[str, Form]:
    network = without_idle(world, world.network(params)).network
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    size, held = len(encode_tensors(tensors, {})), held_bytes(tensors)
    return {"compact": Form(compute=partial(called, network), size=size, held=lambda _: held)}


def _check(world: World) -> None:
    _ = world.coupling


COMPACT = Format(
    name="compact",
    ship=lambda one, _: ship_compact(one),
    forms=_forms,
    check=_check,
    needs_world=True,
)
