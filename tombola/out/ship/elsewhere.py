"""An exported program, run in a process of its own that has torch and never imports tombola."""

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from safetensors.torch import load as decode_tensors
from torch import Tensor

from tombola.errors import CheckError
from tombola.values.tensors import encode_tensors
from tombola.world.batch import leaves, nested

# Messages are the length of a form and of tensors, 8 bytes each, then both. A form says how tensors
# are nested: their numbers, in JSON.
SCRIPT = """
import json, struct, sys, warnings
warnings.simplefilter("ignore")
import torch
from safetensors.torch import load, save

def filled(form, tensors):
    kind, of = form
    if kind == "tensor":
        return tensors[str(of)]
    if kind == "dict":
        return {key: filled(one, tensors) for key, one in of.items()}
    return (tuple if kind == "tuple" else list)(filled(one, tensors) for one in of)

def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in flat(part)]

torch.set_num_threads(1)
network = torch.export.load(sys.argv[1]).module()
come, go = sys.stdin.buffer, sys.stdout.buffer
while head := come.read(16):
    form, size = struct.unpack("<qq", head)
    form, tensors = json.loads(come.read(form)), load(come.read(size))
    with torch.no_grad():
        found = flat(network(filled(form, tensors)))
    sent = save({str(n): tensor.contiguous().clone() for n, tensor in enumerate(found)})
    go.write(struct.pack("<q", len(sent)) + sent)
    go.flush()
"""


class Elsewhere:
    """The program of a `.pt2` file, as a function of nested tensors; a context.

    like: what it gives, for how its outputs are nested.

    Raises:
        CheckError: the other process cannot load or run it; with what it said last.
    """

    def __init__(self, content: bytes, like: Any) -> None:
        self._content, self._like = content, like
        self._held = ExitStack()

    def __enter__(self) -> "Elsewhere":
        folder = Path(self._held.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "program.pt2"
        file.write_bytes(self._content)
        self._said: IO[bytes] = self._held.enter_context(tempfile.TemporaryFile())
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", SCRIPT, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=folder,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._held.close()

    def __call__(self, inputs: Any) -> Any:
        come, go = self._process.stdin, self._process.stdout
        assert come is not None and go is not None
        tensors = {str(n): leaf.contiguous().clone() for n, leaf in enumerate(leaves(inputs))}
        form, sent = json.dumps(form_of(inputs)).encode(), encode_tensors(tensors, {})
        try:
            come.write(struct.pack("<qq", len(form), len(sent)) + form + sent)
            come.flush()
        except BrokenPipeError:
            raise self._failed() from None
        head = go.read(8)
        if len(head) < 8:
            raise self._failed()
        found = decode_tensors(go.read(struct.unpack("<q", head)[0]))
        outputs = iter([found[str(n)] for n in range(len(found))])
        return nested(lambda _: next(outputs), self._like)

    def _failed(self) -> CheckError:
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else f"exit status {self._process.returncode}"
        return CheckError(
            f"loads_elsewhere failed: a fresh process cannot run the file ({said}); it was not "
            "kept."
        )


def form_of(value: Any) -> list[Any]:
    """How tensors are nested, by their numbers.

    >>> import torch
    >>> form_of((torch.zeros(1), {"a": torch.zeros(1)}))
    ['tuple', [['tensor', 0], ['dict', {'a': ['tensor', 1]}]]]
    """
    number = iter(range(len(leaves(value))))

    def form(one: Any) -> list[Any]:
        if isinstance(one, Tensor):
            return ["tensor", next(number)]
        if isinstance(one, Mapping):
            return ["dict", {key: form(part) for key, part in one.items()}]
        return ["tuple" if isinstance(one, tuple) else "list", [form(part) for part in one]]

    return form(value)
