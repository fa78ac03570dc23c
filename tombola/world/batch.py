"""Some examples, as the network and the objective see them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """inputs, targets: nested tensors, first dimension the examples. index: int64, their places in
    the split they come from."""

    inputs: Any
    targets: Any
    index: Tensor


def nested(function: Any, value: Any) -> Any:
    """Apply `function` to each tensor of nested tuples, lists and dicts.

    >>> nested(lambda t: t + 1, {"a": (torch.zeros(1),)})
    {'a': (tensor([1.]),)}
    """
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: nested(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(nested(function, item) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(nested(function, item) for item in value)
    return value


def leaves(value: Any) -> list[Tensor]:
    """All tensors of a nested structure, in order."""
    found: list[Tensor] = []
    nested(found.append, value)
    return found
