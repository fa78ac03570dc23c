"""Recognises networks that are a chain of linear layers, whatever class they are written as."""

import operator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tombola.train.executors.executor import NotServedError
from tombola.values.rng import stream

MOST_LINKS = 32


@dataclass(frozen=True)
class Link:
    """A linear layer by the names of its tensors; relu: whether one follows."""

    weight: str
    bias: str | None
    relu: bool


_FLATTEN = ("flatten", "view", "reshape")
_RELU = (torch.relu, F.relu)


def links_of(network: nn.Module, example: Tensor) -> tuple[Link, ...]:
    """The linear layers of a network, in the order it applies them.

    example: one of its inputs, without a dimension of examples. The forward pass is traced
    symbolically; then what was found is compared with the network on random inputs of that shape.

    Raises:
        NotServedError: the network does anything else than flatten, linear layers and ReLU.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [link.weight for link in links_of(net, torch.zeros(2, 2))]
        ['1.weight', '3.weight']
    """
    kind = type(network).__name__
    if any(m._forward_hooks or m._forward_pre_hooks for m in network.modules()):
        raise NotServedError(f"{kind} has hooks")
    links = _traced(network.eval())
    if links != _traced(network.train()):
        raise NotServedError(f"{kind} computes something else in training than in evaluation")
    if not 0 < len(links) <= MOST_LINKS:
        raise NotServedError(f"{kind} has {len(links)} linear layers; want 1 to {MOST_LINKS}")
    own = [name for link in links for name in (link.weight, link.bias) if name]
    beside = sorted(set(network.state_dict()) ^ set(own)) or (
        [f"{name} twice" for name in own if own.count(name) > 1]
    )
    still = [name for name, p in network.named_parameters() if not p.requires_grad]
    if beside or still:
        raise NotServedError(f"{kind} has {', '.join(beside or still)} beside its linear layers")
    if not _computes_the_same(network, links, example):
        raise NotServedError(f"{kind} computes something else than its linear layers in order")
    return links


def _traced(network: nn.Module) -> tuple[Link, ...]:
    try:
        nodes = list(fx.symbolic_trace(network).graph.nodes)
    except Exception as error:
        kind = type(network).__name__
        raise NotServedError(f"the forward pass of {kind} cannot be traced") from error
    return tuple(_linked(network, nodes))


def _linked(network: nn.Module, nodes: list[fx.Node]) -> list[Link]:
    """The links that a traced forward pass goes through, one after the other."""
    modules = dict(network.named_modules(remove_duplicate=False))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    links: list[Link] = []
    at = nodes[0]
    for node in nodes[1:]:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if not links and tells_a_shape(node):
            continue
        if not node.args or node.args[0] is not at:
            raise NotServedError(f"{node.name} does not follow the layer before it")
        if type(module) is nn.Linear:
            bias = None if module.bias is None else names[id(module.bias)]
            links.append(Link(names[id(module.weight)], bias, relu=False))
        elif links and is_relu(node, module):
            links[-1] = replace(links[-1], relu=True)
        elif not (node.op == "output" or type(module) is nn.Identity or flattens(node, module)):
            what = getattr(node.target, "__name__", node.target)
            what = what if module is None else type(module).__name__
            raise NotServedError(f"{node.name} is {what}, neither linear nor ReLU")
        at = node
    return links


def tells_a_shape(node: fx.Node) -> bool:
    """As in x.view(x.size(0), -1) and x.view(x.shape[0], -1)."""
    asked = node.op == "call_method" and node.target == "size"
    return asked or (node.op == "call_function" and node.target in (getattr, operator.getitem))


def flattens(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_method":
        return node.target in _FLATTEN
    return node.target is torch.flatten or type(module) is nn.Flatten


def is_relu(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_method":
        return node.target == "relu"
    return node.target in _RELU or type(module) is nn.ReLU


def _computes_the_same(network: nn.Module, links: tuple[Link, ...], example: Tensor) -> bool:
    """Whether the layers, applied in order, give the network's outputs on three random examples."""
    inputs = torch.randn((3, *example.shape), generator=stream(0, "links"))
    tensors = dict(network.named_parameters())
    with torch.no_grad():
        hidden = inputs.flatten(1)
        try:
            for link in links:
                bias = None if link.bias is None else tensors[link.bias]
                hidden = F.linear(hidden, tensors[link.weight], bias)
                hidden = hidden.relu() if link.relu else hidden
            found = network(inputs)
        except RuntimeError:
            return False
    return (
        isinstance(found, Tensor)
        and found.shape == hidden.shape
        and torch.allclose(found, hidden, rtol=1e-4, atol=1e-5)
    )
