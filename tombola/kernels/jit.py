"""The loops of `loops.py`, compiled by numba: for machines without a C compiler."""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from tombola.folders import user_cache
from tombola.kernels import loops
from tombola.kernels.chain import Chain, Examples, Floats, Moves, Places, layer_of

CHUNK = 256  # examples at once, when only outputs are wanted
# Sums may be taken in any order, so that they run in vectors; nothing is assumed to be finite.
_FAST = {"contract", "reassoc", "nsz"}
_NO_TABLE = np.zeros((1, 1), dtype=np.float32)


@functools.cache
def compiled() -> SimpleNamespace | None:
    """The functions of `loops`, compiled, by their names; None without a working numba.

    What numba compiles it keeps in the user's cache folder. A cache that cannot be written, or read
    back, is done without.
    """
    try:
        import numba
    except Exception:
        return None  # not installed, or it does not know this numpy
    functions = [f for f in vars(loops).values() if callable(f) and f is not Any]
    for cached in (True, False):
        try:
            if cached:
                numba.config.CACHE_DIR = str(user_cache() / "kernels")  # type: ignore[attr-defined]
            jit = numba.njit(fastmath=_FAST, cache=cached, error_model="numpy")
            found = SimpleNamespace(**{f.__name__: jit(f) for f in functions})
            _try(found)
        except Exception:
            continue
        return found
    return None


def _try(found: SimpleNamespace) -> None:
    """Compile everything, or fail: one step of the smallest chain, of either kind."""
    for moves in (Moves(adam=True), Moves(adam=False)):
        kept = np.ones((1, 1), dtype=bool)
        layer = layer_of(kept, 0, 1, relu=False)
        chain = Chain((layer,), np.zeros(1, dtype=np.int32), np.zeros(2, dtype=np.float32))
        for rows in (np.zeros((1, 1), dtype=np.uint8), np.zeros((1, 1), dtype=np.float32)):
            table = np.zeros((1, 256), dtype=np.float32) if rows.dtype == np.uint8 else None
            examples = Examples(rows, np.zeros(1, dtype=np.int64), table)
            Jit(found).train(chain, examples, np.zeros((1, 1), dtype=np.int64), moves, [0.1], 1)


class Jit:
    """Raises RuntimeError where numba is not installed, or does not work."""

    name: ClassVar[str] = "numba"
    variant: ClassVar[str] = "numba"

    def __init__(self, functions: SimpleNamespace | None = None) -> None:
        found = compiled() if functions is None else functions
        if found is None:
            raise RuntimeError("no numba; install tombola[fast].")
        self._do = found
        self._bound: tuple[Chain, tuple[np.ndarray, np.ndarray, int]] | None = None

    def _flat(self, chain: Chain) -> tuple[np.ndarray, np.ndarray, int]:
        """The chain as the loops want it; kept for the next call."""
        if self._bound is None or self._bound[0] is not chain:
            self._bound = (chain, _flat(chain))
        return self._bound[1]

    def train(
        self,
        chain: Chain,
        examples: Examples,
        index: Places,
        moves: Moves,
        rates: Sequence[float],
        number: int,
    ) -> None:
        layers, ints, units = self._flat(chain)
        held, deltas = (np.zeros((units, index.shape[1]), dtype=np.float32) for _ in range(2))
        gradients, out = np.zeros_like(chain.values), len(held) - chain.layers[-1].outputs
        gather = _gatherer(self._do, chain, examples)
        for place, (batch, rate) in enumerate(zip(index, rates, strict=True)):
            gather(batch, held)
            self._do.forward(layers, ints, chain.values, held, len(batch))
            deltas[out:] = held[out:]
            self._do.cross_entropy(deltas[out:], examples.targets, batch, len(batch))
            self._do.backward(layers, ints, chain.values, gradients, held, deltas, len(batch))
            state = chain.values, gradients, chain.first
            if moves.adam:
                numbers = np.array([*moves.betas, moves.eps, moves.decay])
                self._do.move_adam(*state, chain.second, rate, number + place, numbers)
            else:
                numbers = np.array([moves.momentum, moves.decay])
                self._do.move_sgd(*state, rate, moves.nesterov, numbers)

    def outputs(self, chain: Chain, examples: Examples, index: Places) -> Floats:
        layers, ints, units = self._flat(chain)
        classes = chain.layers[-1].outputs
        found = np.empty((len(index), classes), dtype=np.float32)
        gather = _gatherer(self._do, chain, examples)
        for begin in range(0, len(index), CHUNK):
            part = index[begin : begin + CHUNK]
            held = np.zeros((units, len(part)), dtype=np.float32)
            gather(part, held)
            self._do.forward(layers, ints, chain.values, held, len(part))
            found[begin : begin + CHUNK] = held[-classes:].T
        return found


def _gatherer(do: SimpleNamespace, chain: Chain, examples: Examples) -> Callable[..., None]:
    rows, table = examples.rows, examples.table
    plane = rows.shape[1] if table is None else rows.shape[1] // len(table)
    values = _NO_TABLE if table is None else table

    def gather(index: Places, units: Floats) -> None:
        do.gather(rows, values, plane, chain.used, index, units, table is not None)

    return gather


def _flat(chain: Chain) -> tuple[np.ndarray, np.ndarray, int]:
    """The layers as rows of numbers, their integers one after the other, and how many units."""
    rows, ints, at, units = [], [], 0, 0
    for layer in chain.layers:
        kept = at + len(layer.row)
        by_input = kept + len(layer.column)
        biases = -1 if layer.biases is None else layer.biases
        sizes = (layer.inputs, layer.outputs, int(layer.relu))
        rows.append((*sizes, at, kept, by_input, layer.weights, biases, units))
        ints += [layer.row, layer.column, layer.by_input, layer.output, layer.place]
        at = by_input + len(layer.by_input) + 2 * layer.kept
        units += layer.inputs
    total = units + chain.layers[-1].outputs
    return np.array(rows, dtype=np.int64), np.concatenate(ints).astype(np.int64), total
