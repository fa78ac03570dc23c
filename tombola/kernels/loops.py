"""The kernel as plain loops over arrays, which numba compiles.

Ordinary Python, so that it can be read, and run slowly without numba. Layout as in `chain.c`: units
times examples, kept weights alone. A layer is a row of numbers, under the names below: its sizes,
where its integers begin (row, column; by_input, output, place), its values, and its input units.
"""

from typing import Any

import numpy as np

INPUTS, OUTPUTS, RELU, ROW, KEPT, BY_INPUT, WEIGHTS, BIASES, UNITS = range(9)


def gather(
    rows: Any, table: Any, plane: int, used: Any, index: Any, units: Any, as_bytes: bool
) -> None:
    """The features in use of these examples, as the first units."""
    for u in range(len(used)):
        feature = used[u]
        for e in range(len(index)):
            x = rows[index[e], feature]
            units[u, e] = table[feature // plane, np.int64(x)] if as_bytes else x


def forward(layers: Any, ints: Any, values: Any, units: Any, examples: int) -> None:
    """Every layer, one after the other."""
    for n in range(len(layers)):
        layer = layers[n]
        before, after = layer[UNITS], layer[UNITS] + layer[INPUTS]
        for o in range(layer[OUTPUTS]):
            out = units[after + o]
            bias = values[layer[BIASES] + o] if layer[BIASES] >= 0 else np.float32(0.0)
            for e in range(examples):
                out[e] = bias
            for k in range(ints[layer[ROW] + o], ints[layer[ROW] + o + 1]):
                weight, x = values[layer[WEIGHTS] + k], units[before + ints[layer[KEPT] + k]]
                for e in range(examples):
                    out[e] += weight * x[e]
            if layer[RELU]:
                for e in range(examples):
                    if out[e] <= 0.0:  # what is not a number stays so
                        out[e] = 0.0


def cross_entropy(out: Any, targets: Any, index: Any, examples: int) -> None:
    """Logits become the gradient of their mean cross-entropy."""
    share = np.float32(1.0 / examples)
    for e in range(examples):
        most, total = out[0, e], np.float32(0.0)
        for c in range(1, len(out)):
            most = max(most, out[c, e])
        for c in range(len(out)):
            out[c, e] = np.exp(out[c, e] - most)
            total += out[c, e]
        for c in range(len(out)):
            out[c, e] *= share / total
        out[targets[index[e]], e] -= share


def backward(
    layers: Any, ints: Any, values: Any, gradients: Any, units: Any, deltas: Any, examples: int
) -> None:
    """Gradients of all values. deltas: in the last rows what `cross_entropy` left, then by layer
    what comes back to its inputs."""
    for n in range(len(layers) - 1, -1, -1):
        layer = layers[n]
        before, after = layer[UNITS], layer[UNITS] + layer[INPUTS]
        for o in range(layer[OUTPUTS]):
            delta = deltas[after + o]
            if layer[BIASES] >= 0:
                total = np.float32(0.0)
                for e in range(examples):
                    total += delta[e]
                gradients[layer[BIASES] + o] = total
            for k in range(ints[layer[ROW] + o], ints[layer[ROW] + o + 1]):
                x, total = units[before + ints[layer[KEPT] + k]], np.float32(0.0)
                for e in range(examples):
                    total += delta[e] * x[e]
                gradients[layer[WEIGHTS] + k] = total
        if n == 0:
            return
        relu, output = layers[n - 1][RELU], layer[BY_INPUT] + layer[INPUTS] + 1
        place = output + ints[layer[ROW] + layer[OUTPUTS]]
        for i in range(layer[INPUTS]):
            back, own = deltas[before + i], units[before + i]
            for e in range(examples):
                back[e] = 0.0
            for k in range(ints[layer[BY_INPUT] + i], ints[layer[BY_INPUT] + i + 1]):
                weight = values[layer[WEIGHTS] + ints[place + k]]
                delta = deltas[after + ints[output + k]]
                for e in range(examples):
                    back[e] += weight * delta[e]
            if relu:
                for e in range(examples):
                    if own[e] <= 0.0:
                        back[e] = 0.0


def move_adam(
    values: Any, gradients: Any, first: Any, second: Any, rate: float, t: int, moves: Any
) -> None:
    """moves: beta1, beta2, eps, decay."""
    beta1, beta2, eps, decay = moves[0], moves[1], np.float32(moves[2]), moves[3]
    keep, to1 = np.float32(1.0 - rate * decay), np.float32(1.0 - beta1)
    by2, to2 = np.float32(beta2), np.float32(1.0 - beta2)
    size = np.float32(rate / (1.0 - beta1**t))
    root = np.float32(np.sqrt(1.0 - beta2**t))
    for i in range(len(values)):
        g = gradients[i]
        first[i] += (g - first[i]) * to1
        second[i] = second[i] * by2 + to2 * g * g
        values[i] = values[i] * keep - size * first[i] / (np.sqrt(second[i]) / root + eps)


def move_sgd(
    values: Any, gradients: Any, first: Any, rate: float, nesterov: bool, moves: Any
) -> None:
    """moves: momentum, decay."""
    momentum, decay, lr = np.float32(moves[0]), np.float32(moves[1]), np.float32(rate)
    for i in range(len(values)):
        change = gradients[i] + decay * values[i]
        if momentum != 0.0:
            first[i] = momentum * first[i] + change
            change = change + momentum * first[i] if nesterov else first[i]
        values[i] -= lr * change
