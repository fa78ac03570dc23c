"""Inputs and targets from pairs and dicts of what can be made tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.world.batch import nested
from tombola.world.data.parquet import LABEL_NAMES, only_one
from tombola.world.data.split import Split


def is_pair(data: Any) -> bool:
    """Whether this is (inputs, targets), or a dict of inputs with labels."""
    if isinstance(data, Mapping):
        return _label_in(data) is not None
    return isinstance(data, (tuple, list)) and len(data) == 2


def pair_of(found: Any, name: str) -> Split:
    """Inputs and targets of a pair, or of a dict with one entry that is named like a label.

    Raises:
        WorldError: it is neither, or holds something else than tensors.

    >>> pair_of({"x": torch.ones(2, 3), "label": torch.zeros(2)}, "train").inputs.shape
    torch.Size([2, 3])
    """
    if isinstance(found, Mapping):
        label = _label_in(found)
        if label is None or len(found) < 2:
            raise WorldError(
                f"{name}: a dict of {', '.join(map(str, found))}; want inputs and a `label`."
            )
        rest = {key: value for key, value in found.items() if key != label}
        inputs, targets = rest if len(rest) > 1 else next(iter(rest.values())), found[label]
    elif isinstance(found, (tuple, list)) and len(found) == 2:
        inputs, targets = found
    else:
        several = f" of {len(found)}" if isinstance(found, (tuple, list)) else ""
        raise WorldError(
            f"{name}: items are {type(found).__name__}{several}; want pairs (input, target), or "
            "dicts with a `label`. Several inputs are a tuple or a dict: ((one, other), target)."
        )
    for side, value in {"inputs": inputs, "targets": targets}.items():
        other = _stranger(value)
        if other is not None:
            raise WorldError(
                f"{name}: the {side} hold {type(other).__name__} ({other!r:.40}); want tensors or "
                "arrays of numbers, examples first."
            )
    return Split(inputs, targets)


def as_tensors(value: Any) -> Any:
    """Copies; NumPy's arrays become tensors, mappings of any kind dicts.

    >>> as_tensors({"x": np.ones(2)})
    {'x': tensor([1., 1.], dtype=torch.float64)}
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {key: as_tensors(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(as_tensors(item) for item in value)
    return nested(Tensor.clone, value)


def _label_in(found: Mapping[Any, Any]) -> Any:
    return only_one([key for key in found if key in LABEL_NAMES], LABEL_NAMES)


def _stranger(value: Any) -> Any:
    """Something among nested tensors that is none; None where there is nothing."""
    if isinstance(value, Tensor):
        return None
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next((found for item in value if (found := _stranger(item)) is not None), None)
    return value
