"""The kernels of `chain.c`, called through plain pointers."""

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_int32, c_int64, c_void_p
from typing import Any, ClassVar

import numpy as np

from tombola.kernels.built import VARIANTS, built
from tombola.kernels.chain import Chain, Examples, Floats, Moves, Places

INTERFACE = 3


class _Layer(Structure):
    _fields_: ClassVar = [
        *((name, c_int32) for name in ("inputs", "outputs", "kept", "relu")),
        *((name, c_void_p) for name in ("row", "column", "by_input", "output", "place")),
        ("weights", c_int64),
        ("biases", c_int64),
    ]


class _Chain(Structure):
    _fields_: ClassVar = [
        ("layers", c_int32),
        ("variant", c_int32),
        ("count", c_int64),
        ("layer", POINTER(_Layer)),
        *((name, c_void_p) for name in ("values", "gradients", "first", "second", "space", "next")),
    ]


class _Data(Structure):
    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("bytes", "floats", "table", "targets", "used")),
        ("features", c_int64),
        ("plane", c_int64),
    ]


class _Optimiser(Structure):
    _fields_: ClassVar = [
        ("kind", c_int32),
        ("nesterov", c_int32),
        *((name, c_double) for name in ("momentum", "beta1", "beta2", "eps", "decay")),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The shared library of chains and convolutions; None where there was no compiler."""
    return built("chain", "tombola_interface", INTERFACE, _declare)


def _declare(found: ctypes.CDLL) -> None:
    found.tombola_space.restype = c_int64
    found.tombola_variant.restype = c_int32
    found.tombola_train.restype = found.tombola_outputs.restype = None
    both: list[Any] = [POINTER(_Chain), POINTER(_Data), c_void_p, c_int64]
    optimiser: list[Any] = [POINTER(_Optimiser), POINTER(c_double), c_int64]
    found.tombola_space.argtypes = [POINTER(_Chain)]
    found.tombola_train.argtypes = [*both, c_int32, *optimiser]
    found.tombola_outputs.argtypes = [*both, c_void_p]
    images: list[Any] = [c_void_p, c_void_p, c_void_p]
    found.tombola_conv_pack.restype = found.tombola_conv_unpack.restype = None
    found.tombola_conv_pack.argtypes = found.tombola_conv_unpack.argtypes = images
    found.tombola_conv_sums.restype = found.tombola_conv_gradients.restype = None
    found.tombola_conv_sums.argtypes = [c_void_p] * 5
    found.tombola_conv_gradients.argtypes = [*images, c_int32, c_int32, c_void_p]


class Compiled:
    """variant: an instruction set, the best of this processor unless given.

    Raises:
        RuntimeError: there is no library, or the processor lacks the variant.
    """

    def __init__(self, variant: str | None = None) -> None:
        found = library()
        if found is None:
            raise RuntimeError("no compiled kernels; tombola was installed without a C compiler.")
        self._library, best = found, found.tombola_variant()
        self._variant = best if variant is None else VARIANTS.index(variant)
        if self._variant > best:
            raise RuntimeError(f"this processor has {VARIANTS[best]}, not {variant}.")
        self._bound: tuple[Chain, _Chain, tuple[Any, ...]] | None = None

    @property
    def name(self) -> str:
        return "c" if self._variant else "c plain"

    @property
    def variant(self) -> str:
        """The instruction set in use; "avx2" and "avx512" give equal bits."""
        return VARIANTS[self._variant]

    def train(
        self,
        chain: Chain,
        examples: Examples,
        index: Places,
        moves: Moves,
        rates: Sequence[float],
        number: int,
    ) -> None:
        steps, batch = index.shape
        self._library.tombola_train(
            ctypes.byref(self._chain(chain)),
            ctypes.byref(_data(chain, examples)),
            _address(index),
            steps,
            batch,
            ctypes.byref(
                _Optimiser(
                    int(moves.adam),
                    int(moves.nesterov),
                    moves.momentum,
                    *moves.betas,
                    moves.eps,
                    moves.decay,
                )
            ),
            (c_double * steps)(*rates),
            number,
        )

    def outputs(self, chain: Chain, examples: Examples, index: Places) -> Floats:
        found = np.empty((len(index), chain.layers[-1].outputs), dtype=np.float32)
        self._library.tombola_outputs(
            ctypes.byref(self._chain(chain)),
            ctypes.byref(_data(chain, examples)),
            _address(index),
            len(index),
            _address(found),
        )
        return found

    def _chain(self, chain: Chain) -> _Chain:
        """The chain as the library wants it; kept for the next call."""
        if self._bound is None or self._bound[0] is not chain:
            layers = (_Layer * len(chain.layers))(
                *(
                    _Layer(
                        layer.inputs,
                        layer.outputs,
                        layer.kept,
                        int(layer.relu),
                        *map(
                            _address,
                            (layer.row, layer.column, layer.by_input, layer.output, layer.place),
                        ),
                        layer.weights,
                        -1 if layer.biases is None else layer.biases,
                    )
                    for layer in chain.layers
                )
            )
            gradients = np.zeros_like(chain.values)
            slots = map(_address, (chain.values, gradients, chain.first, chain.second))
            following = np.empty(max(layer.outputs for layer in chain.layers), dtype=np.int32)
            bound = _Chain(
                len(layers),
                self._variant,
                len(chain.values),
                layers,
                *slots,
                None,
                _address(following),
            )
            space = _aligned(self._library.tombola_space(ctypes.byref(bound)))
            bound.space = _address(space)
            self._bound = (chain, bound, (layers, gradients, space, following))
        return self._bound[1]


def _data(chain: Chain, examples: Examples) -> _Data:
    rows, table = examples.rows, examples.table
    features = rows.shape[1]
    return _Data(
        bytes=_address(rows) if rows.dtype == np.uint8 else None,
        floats=_address(rows) if rows.dtype == np.float32 else None,
        table=None if table is None else _address(table),
        targets=_address(examples.targets),
        used=_address(chain.used),
        features=features,
        plane=features if table is None else features // len(table),
    )


def _address(array: np.ndarray) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data


def _aligned(floats: int) -> Floats:
    """Room that begins at a multiple of 64 bytes."""
    room = np.zeros(floats + 16, dtype=np.float32)
    skipped = -room.ctypes.data % 64 // 4
    return room[skipped : skipped + floats]
