"""`--to onnx`: the network for other runtimes, checked in onnxruntime."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tombola.errors import CallError, ShipError, WorldError
from tombola.out.ship.compact import compacted, units_line, without_idle
from tombola.out.ship.exporting import quietly, reason_of
from tombola.out.ship.files import deliver
from tombola.out.ship.format import Form, Format
from tombola.out.ship.shipment import Shipment, held_bytes
from tombola.out.ship.speed import inputs_of
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.world.batch import leaves, nested
from tombola.world.calling import arguments, called
from tombola.world.world import World

ENDING = ".onnx"
TOLERANCE = 1e-5
MOST = (1 << 31) - 1  # bytes of one protobuf message
DENSE = (
    "onnxruntime computes every zero: the file is as large as the dense network's, and what it "
    "gains in speed is the runtime's doing, not sparsity's. Inputs as prepared by the world."
)
COMPACT = "The network without the units that do nothing. Inputs as prepared by the world."


def ship_onnx(shipment: Shipment) -> dict[str, Any]:
    """Write `<stem>.onnx`; returns the document of `tombola ship --json`.

    Raises:
        CallError: the packages for it are missing.
        CheckError: onnxruntime computes something else; the file is not kept.
        ShipError: the network has an operator that ONNX lacks.
    """
    assert shipment.world is not None
    check_installed()
    smaller = compacted(shipment) if shipment.compact else None
    network = shipment.network() if smaller is None else smaller.network
    inputs = inputs_of(shipment.world, 2)
    content = exported(network, inputs)
    with torch.no_grad():
        like = called(network, inputs)
    found = dict[str, Any]()

    def check(raw: bytes) -> dict[str, bool | None]:
        found.update(shipment.found(session(raw, like), TOLERANCE))
        return {"outputs_equal": True}

    ending = ENDING if smaller is None else f".compact{ENDING}"
    checks = deliver(content, shipment.target(ending), check)
    notes = [DENSE] if smaller is None else [COMPACT, units_line(smaller)]
    document = shipment.document(ending, content, checks, **found, notes=notes)
    return {**document, "format": "onnx"}


def check_installed() -> None:
    """Raise CallError unless ONNX files can be written and run here."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CallError(f'onnx needs {error.name}: pip install "tombola[onnx]".') from error


def exported(network: nn.Module, inputs: Any) -> bytes:
    """The network as an ONNX model, for any number of examples.

    inputs: two examples, as the network is called with them (`tombola.world.calling`). The model's
    inputs are named like the arguments, or the entries of a dict; its outputs like the entries of a
    record, else `output`; several parts of one have a number.

    Raises:
        ShipError: it cannot be exported; which operator or line, as far as that is told.
    """
    kind = type(network).__name__
    examples = torch.export.Dim("examples", min=1)
    tensors = leaves(inputs)
    try:
        with quietly(), torch.no_grad():
            flat = Flat(network.eval(), inputs)
            program = torch.onnx.export(
                flat,
                (tensors,),
                dynamo=True,
                dynamic_shapes=([{0: examples} for _ in tensors],),
                input_names=names_of(arguments_by_name(network, inputs)),
                output_names=names_of(parts_by_name(called(network, inputs))),
                verbose=False,
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:
        raise ShipError(f"--to onnx: {kind} cannot be exported: {reason_of(error)}.") from error
    if model.ByteSize() > MOST:
        raise ShipError(f"--to onnx: {kind} has over 2 GB; ship it as safetensors or packed.")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class Flat(nn.Module):
    """A network from a list of tensors to a tuple of them, whatever it takes and gives itself."""

    def __init__(self, network: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.network, self._like = network, nested(lambda _: _PLACE, inputs)

    def forward(self, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        return tuple(leaves(called(self.network, _filled(self._like, rest))))


_PLACE = object()


def _filled(like: Any, tensors: Iterator[Tensor]) -> Any:
    """A nested structure with tensors in the places for them."""
    if like is _PLACE:
        return next(tensors)
    if isinstance(like, dict):
        return {key: _filled(item, tensors) for key, item in like.items()}
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*(_filled(item, tensors) for item in like))
    if isinstance(like, (tuple, list)):
        return type(like)(_filled(item, tensors) for item in like)
    return like


def arguments_by_name(network: nn.Module, inputs: Any) -> dict[str, Any]:
    """What is passed to `forward`, in the order of the inputs, by the names of its parameters.

    >>> arguments_by_name(nn.Linear(2, 3), 7)
    {'input': 7}
    """
    args, named = arguments(network, inputs)
    if named:
        return named
    known = list(inspect.signature(network.forward).parameters.values())
    single = [p.name for p in known if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    spare = [f"input{place}" for place in range(len(args))]
    return dict(zip([*single, *spare][: len(args)], args, strict=True))


def parts_by_name(outputs: Any) -> dict[str, Any]:
    """The entries of a record or dict by their names; anything else is `output`."""
    if is_dataclass(outputs):
        return {one.name: getattr(outputs, one.name) for one in fields(outputs)}
    return dict(outputs) if isinstance(outputs, Mapping) else {"output": outputs}


def names_of(parts: Mapping[str, Any]) -> list[str]:
    """A name for each tensor of these parts.

    >>> names_of({"mask": torch.ones(1), "pair": (torch.ones(1), torch.ones(1))})
    ['mask', 'pair.0', 'pair.1']
    """
    counts = {name: len(leaves(part)) for name, part in parts.items()}
    return [
        str(name) if count == 1 else f"{name}.{place}"
        for name, count in counts.items()
        for place in range(count)
    ]


def session(content: bytes, like: Any) -> Callable[[Any], Any]:
    """An ONNX model as a function of tensors, on one thread; its outputs are nested as `like`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        found = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:
        raise ShipError(f"--to onnx: onnxruntime refuses the model: {error}.") from error
    names = [one.name for one in found.get_inputs()]

    def call(inputs: Any) -> Any:
        given = (leaf.numpy() for leaf in leaves(inputs))
        outputs = iter(found.run(None, dict(zip(names, given, strict=True))))
        return nested(lambda _: torch.from_numpy(next(outputs)), like)

    return call


# -- the format ------------------------------------------------------------------------------


def _forms(world: World, params: Params, mask: Mask) -> dict[str, Form]:
    check_installed()
    network = world.network(params).eval()
    networks = {"onnx": network}
    with suppress(ShipError, WorldError):  # nothing to leave out, or not known what
        networks["compact onnx"] = without_idle(world, network).network
    return {name: _form(own, inputs_of(world, 2)) for name, own in networks.items()}


def _form(network: nn.Module, inputs: Any) -> Form:
    content, held = exported(network, inputs), held_bytes(network.state_dict())
    with torch.no_grad():
        compute = session(content, called(network, inputs))
    return Form(compute=compute, size=len(content), held=lambda _: held)


def _check(world: World) -> None:
    check_installed()


ONNX = Format(
    name="onnx",
    ship=lambda one, _: ship_onnx(one),
    forms=_forms,
    check=_check,
    needs_world=True,
)
