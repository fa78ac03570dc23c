"""A convolution with few weights as flat arrays, and what a kernel does with it.

A linear layer is a convolution of one pixel. Both passes are sums over kept weights: outputs over
what an output reads, gradients of inputs over the outputs that read an input. With strides the
inputs are taken apart by the remainders of their places, which makes neighbours of what
neighbouring sums read; see `conv.h`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int32]
Pair = tuple[int, int]  # of height, of width


class Image(NamedTuple):
    """The size of a layer's input, of any number of examples."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Window:
    """How a layer moves over an image, zeros around it. A linear layer has the usual ones."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)


@dataclass(frozen=True)
class Axis:
    """Sums along one axis in terms of what they read.

    phase, shift: of each tap: in which of the planes of remainders it reads, and how many places
    behind a sum's own. before, places: zeros before a plane, and its size with those and the ones
    behind. sums: how many there are.
    """

    phase: tuple[int, ...]
    shift: tuple[int, ...]
    before: int
    places: int
    sums: int


def outputs_axis(size: int, taps: int, stride: int, padding: int) -> Axis:
    """Outputs that read inputs: output y reads input y * stride + tap - padding.

    >>> outputs_axis(5, taps=3, stride=2, padding=1)
    Axis(phase=(1, 0, 1), shift=(0, 1, 1), before=1, places=4, sums=3)
    """
    apart = [divmod(tap - padding, stride) for tap in range(taps)]
    sums = (size + 2 * padding - taps) // stride + 1
    shifts = [shift for shift, _ in apart]
    return _axis([phase for _, phase in apart], shifts, -(-size // stride), sums)


def inputs_axis(size: int, taps: int, stride: int, padding: int) -> tuple[Axis, ...]:
    """Inputs that outputs read, one axis for each remainder of an input's place; a tap that never
    reads an input of that remainder has phase -1.

    >>> [axis.shift for axis in inputs_axis(4, taps=3, stride=1, padding=1)]
    [(2, 1, 0)]
    """
    outputs = (size + 2 * padding - taps) // stride + 1
    apart = [
        [divmod(remainder + padding - tap, stride) for tap in range(taps)]
        for remainder in range(stride)
    ]
    used = [shift for row in apart for shift, rest in row if rest == 0]
    return tuple(
        _axis(
            [0 if rest == 0 else -1 for _, rest in row],
            [shift for shift, _ in row],
            outputs,
            -(-size // stride),
            used,
        )
        for row in apart
    )


def _axis(
    phase: Sequence[int],
    shift: Sequence[int],
    size: int,
    sums: int,
    used: Sequence[int] | None = None,
) -> Axis:
    known = shift if used is None else used
    before = max(0, -min(known))
    after = max(0, max(known) + sums - size)
    shifted = tuple(before + each for each in shift)
    return Axis(tuple(phase), shifted, before, before + size + after, sums)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over kept weights, plane by plane.

    first: (units + 1,) where the weights of each plane begin; offset: (kept,) how many pixels
    behind a sum lies what each is multiplied with. place: (kept,) int64, where each lies among the
    values, None where in their order.
    rows, columns: of a plane of sums. before, plane: zeros before (rows, columns), and rows and
    columns, of the planes that are read.
    """

    first: Ints
    offset: Ints
    place: Tensor | None
    rows: int
    columns: int
    before: Pair
    plane: Pair

    @property
    def units(self) -> int:
        return len(self.first) - 1


@dataclass(frozen=True, eq=False)
class Conv:
    """A layer that keeps some weights, for images of one size.

    kept: bool (outputs, channels, height, width). forward, backward: the sums that give outputs,
    and gradients of inputs.

    >>> kept = np.array([[True, False], [True, True]]).reshape(2, 2, 1, 1)
    >>> conv = Conv(kept, Image(2, 1, 1))
    >>> conv.forward.first.tolist(), conv.forward.offset.tolist(), conv.backward.place.tolist()
    ([0, 1, 3], [0, 0, 1], [0, 1, 2])
    """

    kept: NDArray[np.bool_]
    image: Image
    window: Window = field(default_factory=Window)

    @cached_property
    def outputs(self) -> Image:
        high, broad = self._axes
        return Image(self.kept.shape[0], high.sums, broad.sums)

    @cached_property
    def where(self) -> Tensor:
        """(kept,) int64: the places of kept weights in the whole tensor."""
        return torch.from_numpy(np.flatnonzero(self.kept))

    @cached_property
    def _axes(self) -> tuple[Axis, Axis]:
        (down, right), (above, left) = self.window.stride, self.window.padding
        tall, wide = self.kept.shape[2:]
        return (
            outputs_axis(self.image.height, tall, down, above),
            outputs_axis(self.image.width, wide, right, left),
        )

    @cached_property
    def forward(self) -> Sums:
        high, broad = self._axes
        down, right = self.window.stride
        output, channel, i, j = np.nonzero(self.kept)
        phase = (channel * down + np.array(high.phase)[i]) * right + np.array(broad.phase)[j]
        row = phase * high.places + np.array(high.shift)[i]
        return Sums(
            _begins(output, self.kept.shape[0]),
            (row * broad.places + np.array(broad.shift)[j]).astype(np.int32),
            None,
            high.sums,
            broad.sums,
            (high.before, broad.before),
            (high.places, broad.places),
        )

    @cached_property
    def backward(self) -> Sums:
        (down, right), (above, left) = self.window.stride, self.window.padding
        tall, wide = self.kept.shape[2:]
        high = inputs_axis(self.image.height, tall, down, above)
        broad = inputs_axis(self.image.width, wide, right, left)
        output, channel, i, j = np.nonzero(self.kept)
        own_row, row_shift = _meets(high)
        own_column, column_shift = _meets(broad)
        unit = (channel * down + own_row[i]) * right + own_column[j]
        row = output * high[0].places + row_shift[i]
        offset = row * broad[0].places + column_shift[j]
        order = np.lexsort((offset, unit))
        return Sums(
            _begins(unit, self.image.channels * down * right),
            offset[order].astype(np.int32),
            torch.from_numpy(order),
            high[0].sums,
            broad[0].sums,
            (high[0].before, broad[0].before),
            (high[0].places, broad[0].places),
        )


def _meets(axes: Sequence[Axis]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The remainder of the inputs that each tap meets, the only one, and the shift it has there."""
    own = np.array([axis.phase for axis in axes]).argmax(axis=0)
    return own, np.array([axis.shift for axis in axes])[own, np.arange(len(own))]


def _begins(units: NDArray[np.int64], count: int) -> Ints:
    ends = np.bincount(units, minlength=count).cumsum()
    return np.concatenate([[0], ends]).astype(np.int32)


class Convolution(Protocol):
    """Computes layers that keep few weights; kernels of one name give equal bits."""

    @property
    def name(self) -> str: ...

    def apply(self, conv: Conv, inputs: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """(examples, *conv.outputs) from (examples, *conv.image), kept weights (kept,) in the order
        of the whole tensor, and bias (outputs,); all float32 on the CPU. Differentiable."""
        ...
