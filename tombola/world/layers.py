"""Finds what may be pruned in a network."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from tombola.values.layer import Layer


def prunable_layers(
    network: nn.Module, rates: Mapping[str, float], named: tuple[str, ...] = ()
) -> tuple[Layer, ...]:
    """Weights of linear, recurrent, convolution and attention layers, in the order of the modules.

    named: names or shell patterns of trained tensors to take besides; they count as linear.
    Left out: biases, normalisation, embeddings (and weights tied to one), frozen tensors, and
    weights that are computed from others (weight norm). The last one is the `output` layer. A tied
    tensor appears once, under its first name.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(8, 3))
        >>> [(l.name, l.kind, l.rate) for l in prunable_layers(net, {"conv": .9, "output": .8})]
        [('0.weight', 'conv', 0.9), ('2.weight', 'output', 0.8)]
    """
    embedded = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    }
    names: dict[int, str] = {}  # the first in the state dict, which is what stores it
    for name, tensor in network.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), name)
    seen: set[int] = set()
    found: list[tuple[str, Tensor, str]] = []
    for tensor, kind in _weights(network):
        owned = isinstance(tensor, nn.Parameter)  # a computed one (weight norm) cannot be cut
        if owned and tensor.requires_grad and id(tensor) not in embedded | seen:
            seen.add(id(tensor))
            found.append((names[id(tensor)], tensor, kind))
    found += [
        (name, tensor, "linear")
        for name, tensor in trained_tensors(network).items()
        if id(tensor) not in seen and is_one_of(name, named)
    ]
    if named:
        places = {name: place for place, name in enumerate(names.values())}
        found.sort(key=lambda one: places[one[0]])
    if found:
        name, tensor, _ = found[-1]
        found[-1] = (name, tensor, "output")
    return tuple(
        Layer(name=name, shape=tuple(tensor.shape), kind=kind, rate=rates[kind])
        for name, tensor, kind in found
    )


def trained_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Trained parameters under their names, tied ones once."""
    return {name: tensor for name, tensor in network.named_parameters() if tensor.requires_grad}


def is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name is, or fits, one of the shell patterns.

    >>> is_one_of("head.weight", ("head.*",)), is_one_of("odd[0].weight", ("odd[0].weight",))
    (True, True)
    """
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def _weights(network: nn.Module) -> Iterator[tuple[Tensor, str]]:
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Bilinear)) or _is_conv1d(module):
            yield cast(Tensor, module.weight), "linear"
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            for name, parameter in module.named_parameters(recurse=False):
                if name.startswith("weight"):
                    yield parameter, "linear"
        elif isinstance(module, _ConvNd):
            yield module.weight, "conv"
        elif isinstance(module, nn.MultiheadAttention):
            for part in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
                weight = getattr(module, part)
                if weight is not None:
                    yield weight, "attention"


def beside_layers(network: nn.Module, rates: Mapping[str, float]) -> tuple[str, ...]:
    """Trained tensors of two or more dimensions that are no layer's weights, by name: embeddings,
    recurrent weights, and those that a layer's are computed from.

    Example:
        >>> net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
        >>> beside_layers(net, {"linear": .8, "output": .9})
        ('0.weight',)
    """
    layers = {layer.name for layer in prunable_layers(network, rates)}
    return tuple(
        name
        for name, tensor in network.named_parameters()
        if tensor.requires_grad and tensor.dim() > 1 and name not in layers
    )


def zero_everywhere(network: nn.Module) -> tuple[str, ...]:
    """Trained weights, and scales of normalisation, that are zero everywhere, by name.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> _ = nn.init.zeros_(net[1].weight)
        >>> zero_everywhere(net)
        ('1.weight',)
    """
    return tuple(
        name
        for name, tensor in network.named_parameters()
        if tensor.requires_grad
        and (tensor.dim() > 1 or name.rpartition(".")[2] == "weight")
        and not bool(tensor.any())
    )


def _is_conv1d(module: nn.Module) -> bool:
    """The linear layer of GPT-2 in transformers, which keeps its weight transposed."""
    kind = type(module)
    return kind.__module__ == "transformers.pytorch_utils" and kind.__name__ == "Conv1D"
