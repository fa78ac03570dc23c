"""The kernel's arithmetic in torch, one operation after the other: works everywhere, and is what
the others are compared with."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tombola.kernels.chain import Chain, Examples, Floats, Layer, Moves, Places


class Plain:
    """Whole matrices made of the kept weights, multiplied and differentiated by torch."""

    name: ClassVar[str] = "torch"
    variant: ClassVar[str] = "torch"

    def train(
        self,
        chain: Chain,
        examples: Examples,
        index: Places,
        moves: Moves,
        rates: Sequence[float],
        number: int,
    ) -> None:
        values, first, second = (
            torch.from_numpy(a) for a in (chain.values, chain.first, chain.second)
        )
        for place, (batch, rate) in enumerate(zip(index, rates, strict=True)):
            leaf = values.clone().requires_grad_(True)
            outputs = _outputs(chain, leaf, _inputs(chain, examples, batch))
            targets = torch.from_numpy(examples.targets[batch])
            torch.nn.functional.cross_entropy(outputs, targets).backward()
            assert leaf.grad is not None
            move(values, leaf.grad, first, second, moves, rate, number + place)

    def outputs(self, chain: Chain, examples: Examples, index: Places) -> Floats:
        with torch.no_grad():
            values = torch.from_numpy(chain.values)
            found: Floats = _outputs(chain, values, _inputs(chain, examples, index)).numpy()
        return found


def _inputs(chain: Chain, examples: Examples, index: Places) -> Tensor:
    rows = examples.rows[index]
    if examples.table is not None:
        channel = np.arange(rows.shape[1]) // (rows.shape[1] // len(examples.table))
        rows = examples.table[channel, rows]
    return torch.from_numpy(np.ascontiguousarray(rows[:, chain.used]))


def _outputs(chain: Chain, values: Tensor, hidden: Tensor) -> Tensor:
    for layer in chain.layers:
        bias = None
        if layer.biases is not None:
            bias = values[layer.biases : layer.biases + layer.outputs]
        hidden = torch.nn.functional.linear(hidden, _matrix(layer, values), bias)
        hidden = hidden.relu() if layer.relu else hidden
    return hidden


def _matrix(layer: Layer, values: Tensor) -> Tensor:
    rows = np.repeat(np.arange(layer.outputs), np.diff(layer.row))
    where = torch.from_numpy(rows), torch.from_numpy(layer.column.astype(np.int64))
    empty = torch.zeros(layer.outputs, layer.inputs)
    return empty.index_put(where, values[layer.weights : layer.weights + layer.kept])


def move(
    values: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    moves: Moves,
    rate: float,
    number: int,
) -> None:
    """The optimiser's step of this number, from 1, along a gradient; changes values and what is
    remembered of them in place."""
    if moves.adam:
        beta1, beta2 = moves.betas
        first += (gradient - first) * (1.0 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        size, root = rate / (1.0 - beta1**number), (1.0 - beta2**number) ** 0.5
        values.mul_(1.0 - rate * moves.decay)
        values.sub_(size * first / (second.sqrt() / root + moves.eps))
        return
    change = gradient + moves.decay * values
    if moves.momentum:
        first.mul_(moves.momentum).add_(change)
        change = change + moves.momentum * first if moves.nesterov else first
    values.sub_(rate * change)
