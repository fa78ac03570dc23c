"""`--to onnx`: the network for other runtimes, checked in onnxruntime."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import nn

from tombola.errors import CallError, ShipError
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
OPERATOR = re.compile(r"(?:OpOverload\(op='|operator |function for <OpOverload\(op=')([\w.:]+)")


def ship_onnx(shipment: Shipment) -> dict[str, Any]:
    """Write `<stem>.onnx`; returns the document of `tombola ship --json`.

    Raises:
        CallError: the packages for it are missing.
        CheckError: onnxruntime computes something else; the file is not kept.
        ShipError: the network has an operator that ONNX lacks.
    """
    assert shipment.world is not None
    check_installed()
    network, inputs = shipment.network(), inputs_of(shipment.world, 2)
    content = exported(network, inputs)
    with torch.no_grad():
        like = network(inputs)
    found = dict[str, Any]()

    def check(raw: bytes) -> dict[str, bool | None]:
        found.update(shipment.found(session(raw, like), TOLERANCE))
        return {"outputs_equal": True}

    checks = deliver(content, shipment.target(ENDING), check)
    return shipment.document(ENDING, content, checks, **found, notes=[DENSE])


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
        with _quietly():
            program = torch.onnx.export(
                network.eval(), (inputs,), dynamo=True, dynamic_shapes=(shapes,), verbose=False
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:
        raise ShipError(f"--to onnx: {kind} cannot be exported: {_reason(error)}.") from error
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


def _reason(error: BaseException) -> str:
    """The operator that is missing, else the first line of the innermost cause."""
    causes = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) and len(causes) < 20:
        causes.append(inner)
    for cause in causes:
        if told := OPERATOR.search(str(cause)):
            return f"there is no operator {told[1]} in ONNX"
    lines = [line.strip() for line in str(causes[-1]).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(causes[-1]).__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks on a terminal, in the log and as warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
