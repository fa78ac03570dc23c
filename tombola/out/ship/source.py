"""A network as a page of Python that needs torch alone, and a file of weights beside it."""

import json
import re
from typing import Any

import torch
from torch import Tensor, fx, nn

PAGE = '''"""{about}

`load()` gives the network with its weights; nothing but torch is needed.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

WEIGHTS = "{weights}"
SHA256 = "{sha256}"


class Network(nn.Module):
    """{kind}, without the units that do nothing."""

    def __init__(self) -> None:
        super().__init__()
{parts}

{forward}


def read(raw: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, which must be the one written with this page."""
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise ValueError(f"{{WEIGHTS}} was changed since it was written; its digest is another")
    start = 8 + int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:start])
    kinds = {kinds}
    return {{
        name: torch.frombuffer(
            bytearray(raw[start + one["data_offsets"][0] : start + one["data_offsets"][1]]),
            dtype=getattr(torch, kinds[one["dtype"]]),
        ).reshape(one["shape"])
        for name, one in head.items()
        if name != "__metadata__"
    }}


def load(path: str | Path | None = None) -> Network:
    """The network, in inference mode; path: of the weights, else beside this page."""
    file = Path(__file__).with_name(WEIGHTS) if path is None else Path(path)
    return build(file.read_bytes())


def build(raw: bytes) -> Network:
    """The network with the weights of these bytes."""
    network = Network()
    network.load_state_dict(read(raw), assign=True)
    return network.requires_grad_(False).eval()
'''

KINDS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}


class NoSourceError(Exception):
    """Why a network cannot be written as a page; the text names the part."""


class Source:
    """A network as text, in a row of layers of torch, whatever class it was written as.

    Raises:
        NoSourceError: its forward pass is more than layers of torch and functions of torch.

    Example:
        >>> print(Source(nn.Sequential(nn.Linear(2, 3), nn.ReLU())).forward)
            def forward(self, inputs):
                x_0 = self.m_0(inputs)
                x_1 = self.m_1(x_0)
                return x_1
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._traced = _traced(network)
        self._names = self._module_names()
        self.parts = "\n".join(
            f"        self.{short} = nn.{_constructor(network.get_submodule(path), path)}"
            for path, short in self._names.items()
        )
        self.forward = self._forward()

    def tensors(self) -> dict[str, Tensor]:
        """The state dict of the page's network."""
        return {
            f"{short}.{name}": tensor.detach().cpu().contiguous()
            for path, short in self._names.items()
            for name, tensor in self._network.get_submodule(path).state_dict().items()
        }

    def page(self, about: str, weights: str, sha256: str) -> str:
        """The text of the file. weights, sha256: name and digest of the file of weights."""
        kind = type(self._network).__name__
        return PAGE.format(
            about=about,
            weights=weights,
            sha256=sha256,
            kind=kind,
            parts=self.parts,
            forward=self.forward,
            kinds=json.dumps(KINDS),
        )

    def _module_names(self) -> dict[str, str]:
        called = (str(n.target) for n in self._traced.nodes if n.op == "call_module")
        paths = list(dict.fromkeys(called))
        short = {path: _short(path) for path in paths}
        if len(set(short.values())) < len(short):
            return {path: f"m_{number}" for number, path in enumerate(paths)}
        return short

    def _forward(self) -> str:
        lines, written = ["    def forward(self, inputs):"], dict[fx.Node, str]()

        for node in self._traced.nodes:
            if node.op == "placeholder":
                written[node] = "inputs"
                continue
            given = fx.node.map_arg((node.args, node.kwargs), lambda n: _Name(written[n]))
            text = _call(node, given, self._names)
            if node.op == "output":
                lines.append(f"        return {text}")
                continue
            written[node] = f"x_{len(written) - 1}"
            lines.append(f"        {written[node]} = {text}")
        return "\n".join(lines)


class _Name(str):
    """A variable, whose text is itself."""

    def __repr__(self) -> str:
        return str(self)


def _traced(network: nn.Module) -> fx.Graph:
    try:
        graph = fx.symbolic_trace(network).graph
    except Exception as error:
        raise NoSourceError(f"the forward pass of {type(network).__name__} branches") from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1 or any(node.op == "get_attr" for node in graph.nodes):
        raise NoSourceError(f"{type(network).__name__} computes with tensors outside its layers")
    return graph


def _short(path: str) -> str:
    """A module's path as the name of an attribute.

    >>> _short("blocks.0.conv1"), _short("0")
    ('blocks_0_conv1', 'm_0')
    """
    short = re.sub(r"\W", "_", path)
    return short if short.isidentifier() and not short[0].isdigit() else f"m_{short}"


def _constructor(module: nn.Module, path: str) -> str:
    """What makes a layer like this one, without its weights."""
    text = repr(module)
    kind = type(module)
    if getattr(nn, kind.__name__, None) is kind and next(module.children(), None) is None:
        try:
            again = eval(f"nn.{text}", {"nn": nn, "torch": torch})
        except Exception:  # its text is no call that makes one
            again = None
        shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (module, again) if m]
        if again is not None and repr(again) == text and shapes[0] == shapes[1]:
            return text
    raise NoSourceError(f"{path} is a {kind.__name__}, which is no plain layer of torch")


def _call(node: fx.Node, given: tuple[Any, Any], names: dict[str, str]) -> str:
    """A node as an expression."""
    args, kwargs = given
    if node.op == "output":
        return repr(args[0])
    if node.op == "call_module":
        return f"self.{names[str(node.target)]}({_listed(args, kwargs)})"
    if node.op == "call_method":
        return f"{args[0]}.{node.target}({_listed(args[1:], kwargs)})"
    name = getattr(node.target, "__name__", "")
    home = str(getattr(node.target, "__module__", ""))
    infix = fx.graph.magic_methods.get(name.strip("_"))
    if home == "_operator" and infix is not None and not kwargs:
        return "(" + infix.format(*map(repr, args)) + ")"
    if node.target is getattr and args[1] in ("shape", "ndim"):
        return f"{args[0]}.{args[1]}"
    if home == "_operator" and name == "getitem":
        return f"{args[0]}[{args[1]!r}]"
    for where, prefix in ((torch, "torch"), (nn.functional, "nn.functional")):
        if getattr(where, name, None) is node.target:
            return f"{prefix}.{name}({_listed(args, kwargs)})"
    raise NoSourceError(f"{node.name} is {name or node.target}, which is no function of torch")


def _listed(args: Any, kwargs: Any) -> str:
    return ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
