"""How a network is called with its inputs, and what counts as its answer."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def called(network: nn.Module, inputs: Any, tensors: Mapping[str, Tensor] | None = None) -> Any:
    """What a network says of inputs (see `arguments`), with these tensors in place of its own.

    >>> import torch
    >>> called(nn.Bilinear(2, 3, 4), (torch.ones(5, 2), torch.ones(5, 3))).shape
    torch.Size([5, 4])
    """
    args, named = arguments(network, inputs)
    if tensors:
        return functional_call(network, dict(tensors), args, named)
    return network(*args, **named)


def arguments(network: nn.Module, inputs: Any) -> Arguments:
    """Inputs as positional and named arguments of `forward`.

    A tuple or list is spread where `forward` takes as many arguments, a dict where it takes
    arguments of these names; anything else, named tuples too, is one argument.

    >>> class Two(nn.Module):
    ...     def forward(self, left, right): ...
    >>> class One(nn.Module):
    ...     def forward(self, batch): ...
    >>> arguments(Two(), (1, 2)), arguments(Two(), {"right": 2, "left": 1})
    (((1, 2), {}), ((), {'right': 2, 'left': 1}))
    >>> arguments(One(), (1, 2)), arguments(One(), {"right": 2, "left": 1})
    ((((1, 2),), {}), (({'right': 2, 'left': 1},), {}))
    """
    plain = isinstance(inputs, (tuple, list)) and not hasattr(inputs, "_fields")
    if plain and _takes(network, len(inputs)):
        return tuple(inputs), {}
    named = isinstance(inputs, dict) and all(isinstance(key, str) for key in inputs)
    if named and _takes(network, tuple(inputs)):
        return (), dict(inputs)
    return (inputs,), {}


def _takes(network: nn.Module, given: int | tuple[str, ...]) -> bool:
    """Whether a network can be called with so many arguments, or with these names."""
    forward = network.forward
    if inspect.ismethod(forward):  # of the class, so that the cache keeps no network alive
        return _binds(forward.__func__, True, given)
    return _binds.__wrapped__(forward, False, given)


@lru_cache(maxsize=256)
def _binds(function: Callable[..., Any], method: bool, given: int | tuple[str, ...]) -> bool:
    own = (None,) if method else ()
    try:
        if isinstance(given, int):
            inspect.signature(function).bind(*own, *range(given))
        else:
            inspect.signature(function).bind(*own, **dict.fromkeys(given))
    except TypeError:
        return False
    return True


def logits(outputs: Any) -> Any:
    """The tensor (examples, classes) of an output: itself, or its `logits`, as transformers and
    many others name it in a record or dict.

    >>> logits({"logits": 1, "hidden": 2}), logits(3)
    (1, 3)
    """
    if isinstance(outputs, Mapping):
        return outputs.get("logits", outputs)
    return getattr(outputs, "logits", outputs)
