"""Some examples, as the network and the objective see them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
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
    """Apply `function` to each tensor of nested tuples, lists, dicts and dataclasses.

    >>> nested(lambda t: t + 1, {"a": (torch.zeros(1),)})
    {'a': (tensor([1.]),)}
    """
    if isinstance(value, torch.Tensor):
        return function(value)
    if is_dataclass(value) and not isinstance(value, type):  # outputs of transformers: dicts too
        parts = {one.name: getattr(value, one.name) for one in fields(value)}
        return replace(value, **{key: nested(function, part) for key, part in parts.items()})
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


def joined(parts: Sequence[Any]) -> Any:
    """Nested tensors of one structure, one after the other.

    >>> joined([{"a": torch.ones(1)}, {"a": torch.zeros(2)}])
    {'a': tensor([1., 0., 0.])}
    """
    together = zip(*map(leaves, parts), strict=True)
    whole = iter([torch.cat(same) for same in together])
    return nested(lambda _: next(whole), parts[0])
