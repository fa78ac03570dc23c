"""Which units of a sequential network can matter, and the network computed with those alone.

A unit is an output of a linear layer or a channel of a convolution. *Dropped*: nothing that is
computed reads it. *Fixed*: no kept weight leads to it from an input, so that it is the same for all
examples, a function of biases and shifts; fixed units are computed for one example, by the same
layers, and added where they are read. So zeros around an image, pools and gradients of biases,
shifts and outgoing weights come out exact. All others are *free*.

Normalisation in training looks at all examples and keeps statistics of them, of units that nothing
reads too; so what goes into one is free, unless it is zero: a convolution without bias and without
kept weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from tombola.train.executors.executor import NotServedError
from tombola.train.executors.links import flattens, is_relu, tells_a_shape
from tombola.values.mask import Mask

Kind = Literal["layer", "norm", "dropout", "each", "flatten"]
Layer = nn.Linear | nn.Conv2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d

_EACH = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)  # on every unit for itself


@dataclass(frozen=True)
class Part:
    """One thing a network does. path: of its module. shape: of what comes out of it, without the
    dimension of examples."""

    kind: Kind
    path: str
    shape: tuple[int, ...]


def parts_of(network: nn.Module, inputs: Tensor) -> tuple[Part, ...]:
    """What a network does, one after the other, to these inputs (examples, ...).

    Raises:
        NotServedError: it does anything else than linear and convolution layers, normalisation over
            a batch, ReLU, pools, dropout and flattening, in a row.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
        >>> [(part.kind, part.shape) for part in parts_of(net, torch.zeros(2, 1, 4, 4))]
        [('layer', (2, 2, 2)), ('each', (2, 2, 2)), ('flatten', (8,)), ('layer', (3,))]
    """
    kind = type(network).__name__
    was_training = network.training
    network.eval()
    try:
        traced = fx.symbolic_trace(network)
        with torch.no_grad():
            ShapeProp(traced).propagate(inputs)
    except Exception as error:
        raise NotServedError(f"the forward pass of {kind} cannot be traced") from error
    finally:
        network.train(was_training)
    parts = _in_a_row(network, list(traced.graph.nodes))
    paths = [part.path for part in parts if part.kind in ("layer", "norm")]
    own = {f"{p}.{name}" for p in paths for name in network.get_submodule(p).state_dict()}
    beside = sorted(set(network.state_dict()) ^ own)
    twice = [path for path in paths if paths.count(path) > 1]
    if beside or twice:
        raise NotServedError(f"{kind} has {(beside or twice)[0]} beside its layers in a row")
    if len({id(p) for p in network.parameters()}) < len(
        list(network.named_parameters(remove_duplicate=False))
    ):
        raise NotServedError(f"{kind} shares tensors between layers")
    return parts


def _in_a_row(network: nn.Module, nodes: Sequence[fx.Node]) -> tuple[Part, ...]:
    parts: list[Part] = []
    at = nodes[0]
    for node in nodes[1:]:
        if tells_a_shape(node):
            continue
        if not node.args or node.args[0] is not at:
            raise NotServedError(f"{node.name} does not follow the layer before it")
        path = str(node.target) if node.op == "call_module" else ""
        kind = _kind(node, network.get_submodule(path) if path else None, path)
        if kind is not None:
            parts.append(Part(kind, path, tuple(node.meta["tensor_meta"].shape[1:])))
        at = node
    return tuple(parts)


def _kind(node: fx.Node, module: nn.Module | None, path: str) -> Kind | None:
    """What a node does; None for nothing."""
    if type(module) in (nn.Linear, nn.Conv2d):
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            raise NotServedError(f"{path} has {module.groups} groups")
        if isinstance(module, nn.Linear) and len(node.meta["tensor_meta"].shape) != 2:
            raise NotServedError(f"{path} is applied to rows of an example")
        return "layer"
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and type(module) in (
        nn.BatchNorm1d,
        nn.BatchNorm2d,
    ):
        if module.momentum is None or not module.track_running_stats or not module.affine:
            raise NotServedError(f"{path} is a normalisation of an unusual kind")
        return "norm"
    if type(module) is nn.Dropout and not module.inplace:
        return "dropout"
    if type(module) in _EACH or is_relu(node, module):
        return "each"
    if flattens(node, module):
        shape = node.meta["tensor_meta"].shape
        if len(shape) != 2:
            raise NotServedError(f"{node.name} does not flatten whole examples")
        return "flatten"
    if node.op == "output" or type(module) is nn.Identity:
        return None
    what = node.target if module is None else type(module).__name__
    raise NotServedError(f"{node.name} is {what}, which units do not pass one by one")


@dataclass(frozen=True)
class Units:
    """The units at one place of a network, as they are computed. free, fixed: their numbers, int64,
    in order."""

    free: Tensor
    fixed: Tensor


@dataclass(frozen=True)
class Stage:
    """A part, the units that go in, those it is computed with, and those that come out."""

    part: Part
    before: Units
    inside: Units
    after: Units


def stages_of(
    network: nn.Module, parts: Sequence[Part], inputs: int, mask: Mask
) -> tuple[Stage, ...]:
    """Which units are computed. inputs: how many the network is given."""
    kept = [_reads(network, part, mask) for part in parts]
    fixed, spread = _fixed(network, parts, kept, inputs)
    read = _read(parts, kept, fixed)
    units = [Units(_numbers(r & ~f), _numbers(r & f)) for r, f in zip(read, fixed, strict=True)]
    stages = []
    for number, part in enumerate(parts):
        before, held = read[number], spread[number]
        inside = Units(_numbers(before & ~held), _numbers(before & held))
        stages.append(Stage(part, units[number], inside, units[number + 1]))
    return tuple(stages)


def _fixed(
    network: nn.Module, parts: Sequence[Part], kept: Sequence[Tensor], inputs: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Which units are the same for all examples: before each part and at the end; and which of
    those before a part it can take so."""
    now, zero = torch.zeros(inputs, dtype=torch.bool), torch.zeros(inputs, dtype=torch.bool)
    fixed, taken = [now], []
    for part, reads in zip(parts, kept, strict=True):
        held = now
        if part.kind == "layer":
            now = ~(reads & ~now).any(dim=1)
            bias = network.get_submodule(part.path).bias
            zero = ~reads.any(dim=1) if bias is None else torch.zeros_like(now)
        elif part.kind == "norm":
            now = held = now & zero
            zero = torch.zeros_like(zero)
        elif part.kind == "dropout":
            now = held = torch.zeros_like(now)
        elif part.kind == "flatten":
            each = part.shape[0] // len(now)
            now, zero = now.repeat_interleave(each), zero.repeat_interleave(each)
        fixed.append(now)
        taken.append(held)
    return fixed, taken


def _read(parts: Sequence[Part], kept: Sequence[Tensor], fixed: Sequence[Tensor]) -> list[Tensor]:
    """Which units anything reads that is computed: before each part, and at the end."""
    now = torch.ones_like(fixed[-1])
    read = [now]
    for number in reversed(range(len(parts))):
        kind = parts[number].kind
        if kind == "layer":
            now = kept[number][now].any(dim=0)
        elif kind == "norm":
            now = torch.ones_like(now)
        elif kind == "flatten":
            now = now.reshape(len(fixed[number]), -1).any(dim=1)
        read.insert(0, now)
    read[0] = torch.ones_like(read[0])
    return read


def _reads(network: nn.Module, part: Part, mask: Mask) -> Tensor:
    """(outputs, inputs): whether a kept weight of a layer leads from one to the other."""
    if part.kind != "layer":
        return torch.empty(0)
    shape = network.get_parameter(f"{part.path}.weight").shape
    kept = mask.of(f"{part.path}.weight", shape)
    return kept.reshape(*shape[:2], -1).any(dim=2)


def _numbers(chosen: Tensor) -> Tensor:
    return chosen.nonzero()[:, 0]


@dataclass(frozen=True)
class Values:
    """free: (examples, units, ...). fixed: (1, units, ...)."""

    free: Tensor
    fixed: Tensor


class Computed:
    """A network's outputs, computed with the units of these stages alone, in the mode it is in."""

    def __init__(self, network: nn.Module, stages: Sequence[Stage]) -> None:
        self._network, self._stages = network, tuple(stages)
        own = {stage.part.path: network.get_submodule(stage.part.path) for stage in stages}
        self._modules: dict[str, Any] = own

    def __call__(self, inputs: Tensor) -> Tensor:
        values = Values(inputs, inputs.new_empty((1, 0, *inputs.shape[2:])))
        for stage in self._stages:
            values = getattr(self, f"_{stage.part.kind}")(stage, values)
        last = self._stages[-1].after
        return self._grouped(values, last, Units(torch.arange(_count(last)), _NONE)).free

    def _grouped(self, values: Values, have: Units, want: Units) -> Values:
        """Units left out, or fixed ones made free."""
        if torch.equal(have.free, want.free) and torch.equal(have.fixed, want.fixed):
            return values
        free, fixed = values.free, values.fixed
        numbers = have.free
        if not bool(torch.isin(want.free, have.free).all()):
            spread = fixed.expand(len(free), *fixed.shape[1:])
            free, numbers = torch.cat([free, spread], 1), torch.cat([have.free, have.fixed])
        return Values(_taken(free, numbers, want.free), _taken(fixed, have.fixed, want.fixed))

    def _layer(self, stage: Stage, values: Values) -> Values:
        layer = self._modules[stage.part.path]
        before, after, shape = stage.before, stage.after, stage.part.shape
        outputs = torch.cat([after.free, after.fixed])
        bias = None if layer.bias is None else layer.bias[outputs]
        if len(before.fixed):
            weight = _window(layer.weight, outputs, before.fixed)
            once = _applied(layer, values.fixed, weight, bias)
        else:
            numbers = layer.weight.new_zeros(len(outputs)) if bias is None else bias
            once = numbers.reshape(1, -1, *[1] * (len(shape) - 1)).expand(1, -1, *shape[1:])
        own, fixed = once.split([len(after.free), len(after.fixed)], dim=1)
        if not len(after.free):
            return Values(values.free.new_empty((len(values.free), 0, *shape[1:])), fixed)
        weight = _window(layer.weight, after.free, before.free)
        if len(before.fixed):
            return Values(_applied(layer, values.free, weight, None) + own, fixed)
        bias = None if bias is None else bias[: len(after.free)]
        return Values(_applied(layer, values.free, weight, bias), fixed)

    def _norm(self, stage: Stage, values: Values) -> Values:
        norm, inside = self._modules[stage.part.path], stage.inside
        values = self._grouped(values, stage.before, inside)
        if norm.training:
            norm.num_batches_tracked.add_(1)
        free, fixed = values.free, values.fixed
        if len(inside.free):
            free = _normalised(norm, free, inside.free)
        if len(inside.fixed):
            twice = fixed.expand(2, *fixed.shape[1:])  # of one number there is no variance
            fixed = _normalised(norm, twice, inside.fixed)[:1]
        return self._grouped(Values(free, fixed), inside, stage.after)

    def _dropout(self, stage: Stage, values: Values) -> Values:
        dropout, inside = self._modules[stage.part.path], stage.inside
        values = self._grouped(values, stage.before, inside)
        free = values.free
        if dropout.training and dropout.p:
            whole = F.dropout(free.new_ones((len(free), *stage.part.shape)), dropout.p)
            free = free * whole[:, inside.free]  # drawn for all units, as the network does
        return self._grouped(Values(free, values.fixed), inside, stage.after)

    def _each(self, stage: Stage, values: Values) -> Values:
        module = self._modules[stage.part.path] if stage.part.path else None

        def applied(tensor: Tensor) -> Tensor:
            if not tensor.shape[1]:
                return tensor.new_empty((len(tensor), 0, *stage.part.shape[1:]))
            if module is None or isinstance(module, nn.ReLU):
                return tensor.relu()
            found: Tensor = module(tensor)
            return found

        return Values(applied(values.free), applied(values.fixed))

    def _flatten(self, stage: Stage, values: Values) -> Values:
        free, fixed = values.free, values.fixed
        each = free[0, :1].numel() if free.shape[1] else fixed[0, :1].numel()
        flat = Values(free.flatten(1), fixed.flatten(1))
        apart = Units(_apart(stage.before.free, each), _apart(stage.before.fixed, each))
        return self._grouped(flat, apart, stage.after)


_NONE = torch.empty(0, dtype=torch.int64)


def _count(units: Units) -> int:
    return len(units.free) + len(units.fixed)


def _apart(numbers: Tensor, each: int) -> Tensor:
    return (numbers[:, None] * each + torch.arange(each)).flatten()


def _taken(tensor: Tensor, have: Tensor, want: Tensor) -> Tensor:
    """The units numbered `want` of a tensor of those numbered `have`."""
    if torch.equal(have, want):
        return tensor
    order = have.argsort()
    return tensor.index_select(1, order[torch.searchsorted(have[order], want)])


def _window(weight: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    rows = weight if _is_all(outputs, len(weight)) else weight.index_select(0, outputs)
    return rows if _is_all(inputs, weight.shape[1]) else rows.index_select(1, inputs)


def _is_all(numbers: Tensor, count: int) -> bool:
    return len(numbers) == count and bool((numbers[1:] > numbers[:-1]).all())


def _applied(layer: Layer, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(inputs, weight, bias)
    found: Tensor = layer._conv_forward(inputs, weight, bias)
    return found


def _normalised(norm: Norm, inputs: Tensor, units: Tensor) -> Tensor:
    """Normalisation of some units; their running statistics are kept as usual."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.momentum is not None
    kept = norm.running_mean, norm.running_var
    mean, variance = (statistic.index_select(0, units) for statistic in kept)
    weight, bias = norm.weight.index_select(0, units), norm.bias.index_select(0, units)
    found = F.batch_norm(
        inputs, mean, variance, weight, bias, norm.training, norm.momentum, norm.eps
    )
    if norm.training:
        with torch.no_grad():
            for statistic, own in zip(kept, (mean, variance), strict=True):
                statistic.index_copy_(0, units, own)
    return found
