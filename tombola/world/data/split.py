"""Examples of one split as tensors in memory, checked once at the door."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from tombola.errors import WorldError
from tombola.values.digest import digest, tensor_digest
from tombola.world.batch import Batch, leaves, nested


@dataclass(frozen=True, eq=False)
class Split:
    """inputs, targets: nested tensors whose first dimension is the examples."""

    inputs: Any
    targets: Any

    def __len__(self) -> int:
        return len(leaves(self.inputs)[0])

    @cached_property
    def digest(self) -> str:
        parts = [
            [tensor_digest(leaf) for leaf in leaves(side)] for side in (self.inputs, self.targets)
        ]
        return digest(["split", repr(nested(lambda _: None, self.inputs)), *parts])

    def take(self, index: Tensor) -> Batch:
        """The examples at these places, in this order."""
        return Batch(
            nested(lambda t: t.index_select(0, index), self.inputs),
            nested(lambda t: t.index_select(0, index), self.targets),
            index,
        )

    def part(self, index: Tensor) -> "Split":
        batch = self.take(index)
        return Split(batch.inputs, batch.targets)


def as_split(data: Any, name: str) -> Split:
    """Tensors `(inputs, targets)`, or a map-style Dataset of such pairs, read once into memory.

    Raises:
        WorldError: nothing in it, lengths that differ, NaN, or items that change between reads.
    """
    if isinstance(data, Split):
        split = data
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        # Copies, so that what is trained on later is what has been checked and named now.
        split = Split(*(nested(Tensor.clone, side) for side in data))
    elif isinstance(data, Dataset) and hasattr(data, "__len__"):
        split = _read(data, name)
    else:
        raise WorldError(
            f"{name}={type(data).__name__}: want a pair (inputs, targets) of tensors, or a torch "
            "Dataset of such pairs."
        )
    _check(split, name)
    return split


def _read(data: Any, name: str) -> Split:
    if len(data) == 0:
        raise WorldError(f"{name}: the data set is empty; want at least one example.")
    # 32 of them, for a flip with chance one half shows in every other item alone.
    for place in torch.linspace(0, len(data) - 1, min(len(data), 32)).int().tolist():
        once, again = (map(tensor_digest, leaves(default_collate([data[place]]))) for _ in range(2))
        if list(once) != list(again):
            raise WorldError(
                f"{name}: item {place} differs when read twice, so the data has no identity. Take "
                "the random augmentation out of the data set and pass it as `prepare`."
            )
    pair = default_collate([data[place] for place in range(len(data))])
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise WorldError(f"{name}: items are {type(data[0]).__name__}; want pairs (input, target).")
    return Split(pair[0], pair[1])


def _check(split: Split, name: str) -> None:
    sides = {"inputs": leaves(split.inputs), "targets": leaves(split.targets)}
    for side, found in sides.items():
        if not found:
            raise WorldError(f"{name}: the {side} hold no tensor; want tensors, examples first.")
        for leaf in found:
            if leaf.dim() == 0:
                raise WorldError(f"{name}: a tensor of the {side} has no example dimension.")
            if leaf.is_floating_point() and not bool(leaf.isfinite().all()):
                where = int((~leaf.isfinite()).reshape(len(leaf), -1).any(dim=1).nonzero()[0])
                raise WorldError(
                    f"{name}: the {side} have NaN or infinity, first in example {where}. Remove or "
                    "fill those examples before making the world."
                )
    lengths = {side: [len(leaf) for leaf in found] for side, found in sides.items()}
    if len({length for found in lengths.values() for length in found}) > 1:
        raise WorldError(f"{name}: lengths differ, {lengths}; want one target per input.")
    if len(split) == 0:
        raise WorldError(f"{name}: no examples; want at least one.")
