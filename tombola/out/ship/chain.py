"""A chain of linear layers that computes with what it keeps: for inference."""

import warnings
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.errors import ShipError
from tombola.kernels.infer import Inference, Rows, library
from tombola.out.ship import card
from tombola.out.ship.card import Stage

WAYS = ("tombola", "torch", "scipy", "dense")  # on the CPU; beside them `card.WAY`
# batch up to -> (way, density up to which a layer goes that way), the first that holds. Measured at
# 300 x 784 and 1024 x 1024, batch 1, 8, 64 and 256, on one core with AVX-512; where the two shapes
# differ, the lower density. `tombola bench ship` measures whole networks.
COMPILED = {
    1: (("tombola", 0.15), ("dense", 1.0)),
    16: (("tombola", 0.25), ("dense", 1.0)),
    1 << 62: (("tombola", 0.4), ("dense", 1.0)),
}
NOT_COMPILED = {
    1: (("scipy", 0.15), ("dense", 1.0)),
    16: (("torch", 0.25), ("dense", 1.0)),
    1 << 62: (("torch", 0.2), ("dense", 1.0)),
}
SMALL = 1 << 13  # weights; below, a call of torch costs more than the layer


class SparseNetwork(nn.Module):
    """Linear layers with ReLU between them, each computed the way a table says is fastest here.

    Shapes: (n, ...), flattened from the second dimension on, to (n, outputs); float32 on the CPU.
    It has no parameters and cannot be trained. way: one of `WAYS` for all layers instead; or "2:4",
    on a graphics card in half precision, where outputs stay: layers that keep at most two of every
    four neighbouring inputs by its sparse products, others dense.

    Raises:
        ShipError: another `way`; "tombola", and there are no compiled kernels; "2:4", and there is
            no such layer, or no card.

    Example:
        >>> keeps_one = Rows(2, *(np.array(a, dtype=np.int32) for a in ([0, 1], [1])),
        ...                  np.array([3], dtype=np.float32), None, relu=False)
        >>> SparseNetwork([keeps_one])(torch.tensor([[5.0, 7.0]]))
        tensor([[21.]])
    """

    def __init__(self, layers: Sequence[Rows], way: str | None = None) -> None:
        super().__init__()
        if way not in (None, *WAYS, card.WAY):
            raise ShipError(f"way={way!r}: want one of {', '.join((*WAYS, card.WAY))}, or None.")
        if way == "tombola" and library() is None:
            raise ShipError("no compiled kernels; tombola was installed without a C compiler.")
        if way == card.WAY:
            card.check_card(layers)
        self.layers, self._way = tuple(layers), way
        self._stages: dict[tuple[str, ...], tuple[Stage, ...]] = {}
        self._by_batch: dict[int, tuple[Stage, ...]] = {}

    def ways(self, batch: int) -> tuple[str, ...]:
        """How each layer is computed for so many examples at once."""
        if self._way is not None:
            return (self._way,) * len(self.layers)
        table = NOT_COMPILED if library() is None else COMPILED
        rows = next(rows for most, rows in table.items() if batch <= most)
        return tuple(_way_of(layer, rows) for layer in self.layers)

    def held(self, batch: int) -> int:
        """Bytes of weights, places and biases that a pass over so many examples reads."""
        if self._way == card.WAY:
            return sum(map(card.held, self.layers))
        return sum(map(_held, self.ways(batch), self.layers))

    def forward(self, inputs: Tensor) -> Tensor:
        batch = len(inputs)
        stages = self._by_batch.get(batch)
        if stages is None:
            stages = self._by_batch[batch] = self._staged(self.ways(batch))
        hidden = inputs.reshape(batch, -1).contiguous()
        if hidden.shape[1] != self.layers[0].inputs or hidden.dtype is not torch.float32:
            raise ShipError(
                f"inputs are {hidden.dtype} {tuple(inputs.shape)}; want float32, "
                f"{self.layers[0].inputs} numbers an example."
            )
        for stage in stages:
            hidden = stage(hidden)
        return hidden

    def _staged(self, ways: tuple[str, ...]) -> tuple[Stage, ...]:
        if ways not in self._stages:
            on_card = self._way == card.WAY
            self._stages[ways] = card.staged(self.layers) if on_card else self._on_cpu(ways)
        return self._stages[ways]

    def _on_cpu(self, ways: tuple[str, ...]) -> tuple[Stage, ...]:
        """Neighbours that our kernels compute become one call."""
        stages: list[Stage] = []
        for way, group in groupby(zip(ways, self.layers, strict=True), key=lambda one: one[0]):
            layers = [layer for _, layer in group]
            if way == "tombola":
                stages.append(_compiled(layers))
            else:
                stages += [_MADE[way](layer) for layer in layers]
        return tuple(stages)


def _way_of(layer: Rows, rows: tuple[tuple[str, float], ...]) -> str:
    weights = layer.inputs * layer.outputs
    if weights < SMALL and rows[0][0] == "tombola":
        return "tombola"
    density = len(layer.column) / max(weights, 1)
    return next(way for way, most in rows if density <= most)


def _held(way: str, layer: Rows) -> int:
    """A layer that is computed dense has a matrix in the place of its rows."""
    whole = 4 * layer.inputs * layer.outputs
    kept = layer.row.nbytes + layer.column.nbytes + layer.weight.nbytes
    bias = 0 if layer.bias is None else layer.bias.nbytes
    return bias + (whole if way == "dense" else kept)


def _compiled(layers: Sequence[Rows]) -> Stage:
    kernel = Inference(layers)

    def stage(inputs: Tensor) -> Tensor:
        out = torch.empty((len(inputs), kernel.outputs))
        kernel.into(inputs.data_ptr(), len(inputs), out.data_ptr())
        return out

    return stage


def _dense(layer: Rows) -> Stage:
    weight = torch.from_numpy(layer.whole())
    bias = None if layer.bias is None else torch.from_numpy(layer.bias)

    def stage(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            found = F.linear(inputs, weight, bias)
        return found.relu_() if layer.relu else found

    return stage


def _torch(layer: Rows) -> Stage:
    row, column, values = map(torch.from_numpy, (layer.row, layer.column, layer.weight))
    size = (layer.outputs, layer.inputs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR")  # torch calls it a beta
        weight = torch.sparse_csr_tensor(row, column, values, size=size, check_invariants=True)
    bias = None if layer.bias is None else torch.from_numpy(layer.bias)

    def stage(inputs: Tensor) -> Tensor:
        found = (weight @ inputs.t()).t()
        found = (found if bias is None else found + bias).contiguous()
        return found.relu_() if layer.relu else found

    return stage


def _scipy(layer: Rows) -> Stage:
    parts = layer.weight, layer.column, layer.row
    weight = scipy.sparse.csr_array(parts, shape=(layer.outputs, layer.inputs))

    def stage(inputs: Tensor) -> Tensor:
        found = np.ascontiguousarray((weight @ inputs.numpy().T).T)
        if layer.bias is not None:
            found += layer.bias
        return torch.from_numpy(np.maximum(found, 0.0, out=found) if layer.relu else found)

    return stage


_MADE = {"dense": _dense, "torch": _torch, "scipy": _scipy}
