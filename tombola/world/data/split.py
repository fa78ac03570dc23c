"""Examples of one split as tensors in memory."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.values.digest import digest, tensor_digest
from tombola.values.rng import stream
from tombola.world.batch import Batch, leaves, nested


@dataclass(frozen=True, eq=False)
class Split:
    """inputs, targets: nested tensors whose first dimension is the examples.

    classes: what the targets 0, 1, .. stand for, where that is known. Not part of its digest.
    identity: the digest, where it is not to be that of the content.
    """

    inputs: Any
    targets: Any
    classes: tuple[str, ...] = ()
    identity: str | None = None

    def __len__(self) -> int:
        return len(leaves(self.inputs)[0])

    @cached_property
    def digest(self) -> str:
        if self.identity is not None:
            return self.identity
        parts = [
            [tensor_digest(leaf) for leaf in leaves(side)] for side in (self.inputs, self.targets)
        ]
        return digest(["split", repr(nested(lambda _: None, self.inputs)), *parts])

    def on(self, device: torch.device) -> "Split":
        """The same examples in the memory of a device; moved once."""
        if device.type == "cpu":
            return self
        if device not in self._elsewhere:
            inputs, targets = (
                nested(lambda t: t.to(device), side) for side in (self.inputs, self.targets)
            )
            self._elsewhere[device] = Split(inputs, targets, self.classes, self.identity)
        return self._elsewhere[device]

    @cached_property
    def _elsewhere(self) -> "dict[torch.device, Split]":
        return {}

    def take(self, index: Tensor) -> Batch:
        """The examples at these places, in this order."""
        index = index.to(leaves(self.inputs)[0].device, non_blocking=True)
        return Batch(
            nested(lambda t: t.index_select(0, index), self.inputs),
            nested(lambda t: t.index_select(0, index), self.targets),
            index,
        )

    def part(self, index: Tensor) -> "Split":
        batch = self.take(index)
        named = self.identity and digest(["split", "part", self.identity, tensor_digest(index)])
        return Split(batch.inputs, batch.targets, self.classes, named)

    def divided(self, held: int, *names: object) -> "tuple[Split, Split]":
        """What is left, and `held` examples drawn by the fixed permutation of these names.

        Raises:
            WorldError: nothing would be left, or nothing held out.
        """
        if not 0 < held < len(self):
            raise WorldError(
                f"cannot hold {held} of {len(self)} examples out; want 1 or more on both sides."
            )
        order = torch.randperm(len(self), generator=stream(0, *names))
        return self.part(order[held:]), self.part(order[:held])
