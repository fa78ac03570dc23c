"""What torch's exporters say: not on a terminal, and why they refuse in a line."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

OPERATOR = re.compile(r"(?:OpOverload\(op='|operator |function for <OpOverload\(op=')([\w.:]+)")


def reason_of(error: BaseException) -> str:
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
def quietly() -> Iterator[None]:
    """Without the exporter's remarks on a terminal, in the log and as warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
