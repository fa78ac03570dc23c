"""Outputs of a chain of sparse linear layers, for use after training: `infer.c`, or numpy."""

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tombola.kernels.built import VARIANTS, built

INTERFACE = 1


@dataclass(frozen=True, eq=False)
class Rows:
    """One linear layer by what it keeps, row by row.

    row: int32 (outputs + 1,), where the weights of each output unit begin. column: int32 (kept,),
    the input unit of each. weight: float32 (kept,). bias: float32 (outputs,). relu: whether one
    follows.
    """

    inputs: int
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    relu: bool

    @property
    def outputs(self) -> int:
        return len(self.row) - 1

    def whole(self) -> NDArray[np.float32]:
        """The matrix (outputs, inputs), with zeros where nothing is kept."""
        found = np.zeros((self.outputs, self.inputs), dtype=np.float32)
        found[self.outputs_of_kept(), self.column] = self.weight
        return found

    def outputs_of_kept(self) -> NDArray[np.int64]:
        """(kept,): the output unit of each weight."""
        return np.repeat(np.arange(self.outputs), np.diff(self.row))


class _Layer(Structure):
    _fields_: ClassVar = [
        *((name, c_int32) for name in ("inputs", "outputs", "relu")),
        *((name, c_void_p) for name in ("row", "column", "weight", "bias")),
    ]


class _Network(Structure):
    _fields_: ClassVar = [
        *((name, c_int32) for name in ("layers", "variant", "features", "count_used")),
        ("used", c_void_p),
        ("layer", POINTER(_Layer)),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The shared library of inference; None where there was no compiler."""
    return built("infer", "tombola_infer_interface", INTERFACE, _declare)


def _declare(found: ctypes.CDLL) -> None:
    found.tombola_infer.argtypes = [POINTER(_Network), c_void_p, c_int64, c_void_p]
    found.tombola_infer.restype = c_int32


class Inference:
    """Outputs of a chain: (examples, inputs of the first layer) to (examples, outputs).

    Calls may come from several threads. Sums are taken in another order for few examples than for
    many, so the two agree up to rounding.

    variant: an instruction set, the best of this processor unless given.

    Raises:
        RuntimeError: there is no library, or the processor lacks the variant.

    Example:
        >>> keeps_one = Rows(2, *(np.array(a, dtype=np.int32) for a in ([0, 1], [1])),
        ...                  np.array([3], dtype=np.float32), None, relu=False)
        >>> Inference([keeps_one])(np.array([[5, 7]], dtype=np.float32)).tolist()
        [[21.0]]
    """

    def __init__(self, layers: Sequence[Rows], variant: str | None = None) -> None:
        found = library()
        if found is None:
            raise RuntimeError("no compiled kernels; tombola was installed without a C compiler.")
        best = found.tombola_infer_variant()
        number = best if variant is None else VARIANTS.index(variant)
        if number > best:
            raise RuntimeError(f"this processor has {VARIANTS[best]}, not {variant}.")
        self.variant = VARIANTS[number]
        self.features, self.outputs = layers[0].inputs, layers[-1].outputs
        used = np.unique(layers[0].column)
        table = (_Layer * len(layers))(*map(_layer, layers))
        network = _Network(len(layers), number, self.features, len(used), _address(used), table)
        self._call, self._network = found.tombola_infer, ctypes.byref(network)
        self._held: tuple[Any, ...] = (tuple(layers), used, table, network)

    def into(self, inputs: int, examples: int, out: int) -> None:
        """The same by addresses of float32 rows without gaps: for arrays of any library."""
        if self._call(self._network, inputs, examples, out):
            raise MemoryError("no room for the units of the layers.")

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        if inputs.ndim != 2 or inputs.shape[1] != self.features:
            raise ValueError(f"inputs {inputs.shape}: want (examples, {self.features}).")
        out = np.empty((len(inputs), self.outputs), dtype=np.float32)
        self.into(_address(inputs), len(inputs), _address(out))
        return out


def _layer(layer: Rows) -> _Layer:
    bias = None if layer.bias is None else _address(layer.bias)
    places = map(_address, (layer.row, layer.column, layer.weight))
    return _Layer(layer.inputs, layer.outputs, int(layer.relu), *places, bias)


def _address(array: np.ndarray) -> int:
    assert array.flags.c_contiguous
    return int(array.ctypes.data)
