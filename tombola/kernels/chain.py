"""A chain of sparse linear layers as flat arrays, and what a kernel does with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear layer: which weights it keeps, and where they lie among all values.

    relu: whether one follows. row: (outputs + 1,) where the weights of each output unit begin;
    column: (kept,) the input unit of each. by_input, output, place: the same weights in the order
    of input units: where those of each begin, the output unit of each, and its place in row order.
    weights, biases: where they begin among the values; biases None: the layer has none.
    """

    inputs: int
    outputs: int
    relu: bool
    row: Ints
    column: Ints
    by_input: Ints
    output: Ints
    place: Ints
    weights: int
    biases: int | None

    @property
    def kept(self) -> int:
        return len(self.column)


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers in order, and one flat array of everything trained.

    used: features of an example that the first layer reads, in the order of its input units.
    values: kept weights row by row, then biases, layer by layer. first, second: what an optimiser
    remembers of each (Adam's averages; momentum).
    """

    layers: tuple[Layer, ...]
    used: Ints
    values: Floats
    first: Floats = field(init=False)
    second: Floats = field(init=False)

    def __post_init__(self) -> None:
        for slot in ("first", "second"):
            object.__setattr__(self, slot, np.zeros_like(self.values))


def layer_of(
    kept: NDArray[np.bool_],
    weights: int,
    biases: int | None,
    relu: bool,
    inputs: Ints | None = None,
) -> Layer:
    """The layer that keeps these weights, (outputs, inputs).

    inputs: the input units there are, where some are left out; they are numbered anew.

    >>> layer = layer_of(np.array([[True, False], [True, True]]), 0, 3, relu=True)
    >>> layer.row.tolist(), layer.column.tolist(), layer.output.tolist(), layer.place.tolist()
    ([0, 1, 3], [0, 0, 1], [0, 1, 1], [0, 1, 2])
    """
    if inputs is not None and len(inputs) < kept.shape[1]:
        kept = kept[:, inputs]
    row_of, column = np.divmod(np.flatnonzero(kept).astype(np.int32), np.int32(kept.shape[1]))
    # Rows ascend already; numbers of sixteen bits numpy sorts by counting.
    narrow = column.astype(np.uint16) if kept.shape[1] <= 1 << 16 else column
    order = np.argsort(narrow, kind="stable")

    def begins(units: Places, count: int) -> Ints:
        return np.concatenate([[0], np.bincount(units, minlength=count).cumsum()]).astype(np.int32)

    return Layer(
        inputs=kept.shape[1],
        outputs=kept.shape[0],
        relu=relu,
        row=begins(row_of, kept.shape[0]),
        column=column,
        by_input=begins(column, kept.shape[1]),
        output=row_of[order],
        place=order.astype(np.int32),
        weights=weights,
        biases=biases,
    )


@dataclass(frozen=True, eq=False)
class Examples:
    """rows: (examples, features), bytes or float32, C-contiguous. table: (channels, 256) float32,
    what each byte stands for in each channel; a channel is features / channels in a row. targets:
    (examples,) int64, classes."""

    rows: NDArray[np.uint8] | Floats
    targets: Places
    table: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Moves:
    """An optimiser: `adam` with decoupled decay, else SGD with momentum, decay an L2 penalty."""

    adam: bool
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0


class Kernel(Protocol):
    """Trains chains on mean cross-entropy.

    name: kernels of one name give equal bits. variant: what tells apart those that do.
    """

    @property
    def name(self) -> str: ...

    @property
    def variant(self) -> str: ...

    def train(
        self,
        chain: Chain,
        examples: Examples,
        index: Places,
        moves: Moves,
        rates: Sequence[float],
        number: int,
    ) -> None:
        """Make one step for each row of `index` (steps, batch) at each of the rates; `number` is
        that of the first, from 1. Changes the chain's arrays in place."""
        ...

    def outputs(self, chain: Chain, examples: Examples, index: Places) -> Floats:
        """(len(index), classes): what the last layer gives."""
        ...
