"""Which places of a network's tensors belong together: they carry one label, or may not be cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

Axis = Tensor | None  # a label for each place along a dimension, int64; None: nothing to follow
Axes = list[Axis]


@dataclass
class Labels:
    """Labels that are found to mean the same, and those that are held: no unit is made of them.

    held: label -> what holds it, in words.
    """

    parent: list[int] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)

    def fresh(self, count: int) -> Tensor:
        """New labels, int64 (count,)."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def root(self, label: int) -> int:
        """The label that stands for all that mean the same."""
        while self.parent[label] != label:
            self.parent[label] = label = self.parent[self.parent[label]]
        return label

    def same(self, one: Axis, other: Axis, why: str) -> Axis:
        """What two dimensions that meet place by place have in common; of size 1, each place of the
        other meets it."""
        if one is None or other is None:
            return self._meets_nothing(one if other is None else other, why)
        if len(one) != len(other):
            small, large = sorted((one, other), key=len)
            self.hold(small, why)
            return large
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            self._join(a, b)
        return one

    def _meets_nothing(self, axis: Axis, why: str) -> Axis:
        self.hold(axis, why)
        return axis

    def _join(self, one: int, other: int) -> None:
        a, b = self.root(one), self.root(other)
        if a != b:
            low, high = sorted((a, b))
            self.parent[high] = low
            if high in self.held:
                self.held.setdefault(low, self.held.pop(high))

    def together(self, labels: Tensor) -> None:
        """All of these mean the same."""
        first, *rest = labels.reshape(-1).tolist()
        for label in rest:
            self._join(first, label)

    def hold(self, axis: Axis, why: str) -> None:
        """No unit may be made of these."""
        for label in [] if axis is None else set(axis.tolist()):
            self.held.setdefault(self.root(label), why)

    # -- shapes ----------------------------------------------------------------------------------

    def reshaped(self, axes: Axes, before: Sequence[int], after: Sequence[int], why: str) -> Axes:
        """The dimensions of a tensor laid out anew, row by row."""
        found: Axes = []
        for old, new in _groups(before, after):
            sizes = [after[d] for d in new]
            if [before[d] for d in old] == sizes:
                found += [axes[d] for d in old]
                continue
            flat = self._merged([axes[d] for d in old], [before[d] for d in old], why)
            found += self._divided(flat, sizes)
        return found

    def _merged(self, axes: Axes, sizes: Sequence[int], why: str) -> Axis:
        """Of neighbouring dimensions that become one: at most one of them may be followed."""
        followed = [d for d, axis in enumerate(axes) if axis is not None and sizes[d] > 1]
        if len(followed) > 1:
            for axis in axes:
                self.hold(axis, why)
            return None
        if not followed:
            return next((a for a in axes if a is not None), None) if prod(sizes) == 1 else None
        place = followed[0]
        axis = axes[place]
        assert axis is not None
        shape = [1] * len(sizes)
        shape[place] = sizes[place]
        return axis.reshape(shape).expand(*sizes).reshape(-1)

    def _divided(self, flat: Axis, sizes: Sequence[int]) -> Axes:
        """Of a dimension that becomes several: one of them is followed, that along which labels
        differ; if they differ along more (heads of attention), all of a place of the first mean
        the same."""
        nothing: Axes = [None] * len(sizes)
        if flat is None or not sizes:
            return nothing
        grid = flat.reshape(list(sizes))
        many = [d for d, size in enumerate(sizes) if size > 1]
        for place in many:
            first = grid.movedim(place, 0).reshape(sizes[place], -1)
            if bool((first == first[:, :1]).all()):
                nothing[place] = first[:, 0].clone()
                return nothing
        place = many[0] if many else 0
        first = grid.movedim(place, 0).reshape(sizes[place], -1)
        for row in first:
            self.together(row)
        nothing[place] = first[:, 0].clone()
        return nothing


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Runs of dimensions of equal size in all: which of them become which.

    >>> _groups((2, 3, 4, 5), (2, 12, 5))
    [([0], [0]), ([1, 2], [1]), ([3], [2])]
    """
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        old, new = [i], [j]
        while (a := prod(before[d] for d in old)) != (b := prod(after[d] for d in new)):
            if a < b:
                old.append(old[-1] + 1)
            else:
                new.append(new[-1] + 1)
        found.append((old, new))
        i, j = old[-1] + 1, new[-1] + 1
    rest = list(range(i, len(before))), list(range(j, len(after)))
    if rest[0] or rest[1]:  # all of size 1
        found.append(rest)
    return found
