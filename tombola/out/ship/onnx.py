"""`--to onnx`: the network for other runtimes, checked in onnxruntime."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tombola.errors import CallError, ShipError
from tombola.out.ship.compact import compacted, units_line
from tombola.out.ship.exporting import quietly, reason_of
from tombola.out.ship.files import deliver
from tombola.out.ship.shipment import Shipment
from tombola.out.ship.speed import inputs_of
from tombola.world.batch import leaves, nested

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
        like = network(inputs)
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

    inputs: its one argument, two examples of it.

    Raises:
        ShipError: it cannot be exported; which operator or line, as far as that is told.
    """
    kind = type(network).__name__
    examples = torch.export.Dim("examples", min=1)
    shapes = nested(lambda tensor: {0: examples}, inputs)
    try:
        with quietly():
            program = torch.onnx.export(
                network.eval(), (inputs,), dynamo=True, dynamic_shapes=(shapes,), verbose=False
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:
        raise ShipError(f"--to onnx: {kind} cannot be exported: {reason_of(error)}.") from error
    if model.ByteSize() > MOST:
        raise ShipError(f"--to onnx: {kind} has over 2 GB; ship it as safetensors or packed.")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


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
