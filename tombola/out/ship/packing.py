"""A sparse network in as few bytes as it can be given back from, and back.

A mask is coded by how often weights are kept among rows and columns that keep about as many; what
is kept, byte by byte: signs and mantissas are noise, exponents are not. Kept weights of one size
(binary ones, signed constants) are that size and a bit each. File: the magic, a length, a
compressed JSON head, the streams in its order, the SHA-256 of all that.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tombola.errors import ShipError
from tombola.out.ship.entropy import WHOLE, Symbols, Table, cost, decode, encode, frequencies
from tombola.out.ship.weights import (
    inflated,
    narrowed,
    one_size,
    put_signs,
    put_values,
    take_signs,
    take_values,
    widened,
)
from tombola.values.digest import canonical_bytes
from tombola.values.mask import Mask
from tombola.values.params import Params

MAGIC = b"TOMBOLA\x01"
SEAL = 32  # bytes of a SHA-256
PRECISIONS = ("float32", "float16", "int8")
SIGNS = "signs"  # what kept weights of one size are coded as
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


# What a file that is no file of ours can lead to, when it is taken at its word.
_NONSENSE = (
    *(KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError),
    *(OverflowError, StopIteration, zlib.error),
)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A network as it is packed, and as it comes back.

    tensors: cut weights +0.0; each tensor once. same: further names of tied tensors, and the name
    each is there under. precision: of kept weights, tensors of two or more dimensions, unless they
    are of one size, which is exact as it is; all else stays too. facts: what else the file says.

    Raises:
        ShipError: weights that the precision cannot hold, or a tensor of a kind it does not know.

    Example:
        >>> kept = torch.eye(3, dtype=torch.bool)
        >>> net = Packed(tensors=Params({"w": torch.eye(3)}), mask=Mask({"w": kept}))
        >>> again = Packed.decode(net.encode())
        >>> again.tensors.digest == net.tensors.digest, again.mask.digest == net.mask.digest
        (True, True)
    """

    tensors: Params
    mask: Mask
    same: Mapping[str, str] = field(default_factory=dict)
    precision: str = "float32"
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Tensor]:
        """All tensors by all their names, as `load_state_dict` wants them."""
        return {**self.tensors, **{name: self.tensors[first] for name, first in self.same.items()}}

    @property
    def signs(self) -> tuple[str, ...]:
        """The tensors whose kept weights are plus or minus one number, and so take a bit each."""
        return tuple(
            n for n, t in self.tensors.items() if n in self.mask and one_size(self._kept(n, t))
        )

    def encode(self) -> bytes:
        parts: list[bytes] = []
        entries = [self._put(name, tensor, parts) for name, tensor in self.tensors.items()]
        head = {
            "tensors": entries,
            "same": dict(self.same),
            "precision": self.precision,
            "facts": dict(self.facts),
            "parts": [len(part) for part in parts],
        }
        packed = zlib.compress(canonical_bytes(head), 9)
        raw = b"".join([MAGIC, len(packed).to_bytes(4, "little"), packed, *parts])
        return raw + hashlib.sha256(raw).digest()

    def _put(self, name: str, tensor: Tensor, parts: list[bytes]) -> dict[str, Any]:
        kind = str(tensor.dtype).removeprefix("torch.")
        if kind not in DTYPES:
            raise ShipError(f"{name!r} is {kind}, which cannot be packed; ship it as safetensors.")
        flat = tensor.detach().cpu().contiguous()
        entry: dict[str, Any] = {"name": name, "dtype": kind, "shape": list(tensor.shape)}
        if name in self.mask:
            entry["classes"] = _put_mask(self.mask[name].numpy(), parts)
        kept = self._kept(name, flat)
        if name in self.mask and one_size(kept):
            entry["as"] = SIGNS
            put_signs(kept, parts)
            return entry
        if self.precision != "float32" and tensor.dtype is torch.float32 and tensor.dim() > 1:
            entry["as"] = self.precision
            kept = narrowed(name, kept, self._rows(name, tensor), self.precision, parts)
        put_values(kept, parts)
        return entry

    def _kept(self, name: str, tensor: Tensor) -> Tensor:
        """The weights the mask keeps, one after another."""
        return tensor[self.mask[name]] if name in self.mask else tensor.flatten()

    def _rows(self, name: str, tensor: Tensor) -> Tensor:
        """The output unit of each kept weight."""
        return self.mask.of(name, tensor.shape).nonzero()[:, 0]

    @classmethod
    def decode(cls, raw: bytes, where: str = "the file") -> "Packed":
        """The network of these bytes.

        Raises:
            ShipError: not a packed network, of a newer tombola, or not what was written.
        """
        head, parts = _opened(raw, where)
        tensors, masks = dict[str, Tensor](), dict[str, Tensor]()
        try:
            for entry in head["tensors"]:
                _take(entry, parts, tensors, masks)
            return cls(
                tensors=Params(tensors),
                mask=Mask(masks),
                same=head["same"],
                precision=head["precision"],
                facts=head["facts"],
            )
        except _NONSENSE as error:
            raise ShipError(f"{where} does not hold what its head says ({error}).") from error


def _opened(raw: bytes, where: str) -> tuple[dict[str, Any], Iterator[bytes]]:
    """The head, and the streams one after another."""
    if raw[:7] != MAGIC[:7]:
        raise ShipError(f"{where} is not a packed network; `tombola ship --to packed` writes one.")
    if raw[:8] != MAGIC:
        raise ShipError(f"{where} was written by a newer tombola; install that one to read it.")
    if hashlib.sha256(raw[:-SEAL]).digest() != raw[-SEAL:]:
        raise ShipError(f"{where} is damaged or was changed: its digest is another. Ship it anew.")
    try:
        end = 12 + int.from_bytes(raw[8:12], "little")
        head = json.loads(inflated(raw[12:end]))
        ends = end + np.cumsum([0, *head["parts"]])
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise ShipError(f"{where} has no head that can be read ({error}).") from error
    return head, (raw[begin:end] for begin, end in pairwise(ends.tolist()))


def _take(
    entry: Mapping[str, Any],
    parts: Iterator[bytes],
    tensors: dict[str, Tensor],
    masks: dict[str, Tensor],
) -> None:
    """The next tensor, and its mask if it has one."""
    name, shape, dtype = entry["name"], tuple(entry["shape"]), DTYPES[entry["dtype"]]
    kept = torch.ones(shape, dtype=torch.bool)
    if "classes" in entry:
        kept = masks[name] = torch.from_numpy(_take_mask(shape, entry["classes"], parts))
    count = int(kept.sum())
    if entry.get("as") == SIGNS:
        values = take_signs(count, dtype, parts)
    elif "as" in entry:
        values = widened(kept.nonzero()[:, 0], entry["as"], count, parts)
    else:
        values = take_values(count, dtype, parts)
    tensors[name] = torch.zeros(shape, dtype=dtype)
    tensors[name][kept] = values


# -- masks -----------------------------------------------------------------------------------

CLASSES = (1, 2, 4, 8, 16)


def _put_mask(kept: NDArray[np.bool_], parts: list[bytes]) -> int:
    """Code a mask; returns into how many classes its rows, and its columns, were sorted."""
    flat = kept.reshape(len(kept), -1)
    best: tuple[float, int, Symbols, Symbols, Table] | None = None
    for classes in CLASSES:
        rows, columns = (_classes(flat.sum(axis=axis), classes) for axis in (1, 0))
        counts = _counts(flat, rows, columns, classes)
        bits = (len(rows) + len(columns)) * math.log2(classes)
        size = cost(counts) + 2 * classes**2 + bits / 8
        if best is None or size < best[0]:
            best = size, classes, rows, columns, frequencies(counts)
    assert best is not None
    _, classes, rows, columns, table = best
    parts.append(_packed_classes(np.concatenate([rows, columns]), classes))
    parts.append(zlib.compress(table[:, 1].astype("<u2").tobytes(), 9))
    parts.append(encode(flat.ravel().view(np.uint8), _contexts(rows, columns, classes), table))
    return classes


def _take_mask(shape: tuple[int, ...], classes: int, parts: Iterator[bytes]) -> NDArray[np.bool_]:
    rows, columns = shape[0], math.prod(shape[1:])
    both = _unpacked_classes(next(parts), rows + columns, classes)
    often = np.frombuffer(inflated(next(parts)), "<u2").astype(np.int64)
    table = np.stack([WHOLE - often, often], axis=1)
    contexts = _contexts(both[:rows], both[rows:], classes)
    return decode(next(parts), contexts, table).astype(np.bool_).reshape(shape)


def _classes(kept: NDArray[Any], classes: int) -> Symbols:
    """Rows, or columns, in classes of equal size by how many they keep."""
    found = np.empty(len(kept), dtype=np.uint8)
    found[kept.argsort(kind="stable")] = np.arange(len(kept)) * classes // len(kept)
    return found


def _contexts(rows: Symbols, columns: Symbols, classes: int) -> Symbols:
    # 256 contexts at most: 15 * 16 + 15
    return (rows[:, None] * np.uint8(classes) + columns[None, :]).ravel()


def _counts(flat: NDArray[np.bool_], rows: Symbols, columns: Symbols, classes: int) -> Table:
    """(contexts, 2): how many weights are cut and kept in each."""
    contexts = _contexts(rows, columns, classes)
    every = np.bincount(contexts, minlength=classes**2)
    kept = np.bincount(contexts[flat.ravel()], minlength=classes**2)
    return np.stack([every - kept, kept], axis=1)


def _packed_classes(found: Symbols, classes: int) -> bytes:
    bits = np.unpackbits(found[:, None], axis=1, bitorder="little", count=classes.bit_length() - 1)
    return np.packbits(bits, bitorder="little").tobytes()


def _unpacked_classes(packed: bytes, count: int, classes: int) -> Symbols:
    width = classes.bit_length() - 1
    bits = np.unpackbits(
        np.frombuffer(packed, np.uint8), bitorder="little", count=count * width
    ).reshape(count, width)
    return (
        np.packbits(bits, axis=1, bitorder="little")[:, 0] if width else np.zeros(count, np.uint8)
    )
