"""Kept weights as bytes, and back: whole, rounded, or a sign each."""

import zlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tombola.errors import ShipError
from tombola.out.ship.entropy import Symbols, cost, decode, encode, frequencies

MOST = 1 << 26  # bytes; what is compressed may not grow without bound


def put_values(values: Tensor, parts: list[bytes]) -> None:
    """Bytes of equal place together."""
    for plane in _planes(values):
        _put_plane(plane, parts)


def _put_plane(plane: Symbols, parts: list[bytes]) -> None:
    """Bytes, coded by their frequencies, or as they are."""
    counts = np.bincount(plane, minlength=256)[None, :]
    table = frequencies(counts)
    told = zlib.compress(table.astype("<u2").tobytes(), 9)
    if len(plane) and cost(counts) + len(told) + 4 < len(plane):
        parts += [told, encode(plane, np.zeros(len(plane), np.uint8), table)]
    else:
        parts += [b"", plane.tobytes()]


def _take_plane(count: int, parts: Iterator[bytes]) -> Symbols:
    told, stream = next(parts), next(parts)
    if not told:
        return np.frombuffer(stream, np.uint8, count)
    table = np.frombuffer(inflated(told), "<u2").astype(np.int64)[None, :]
    return decode(stream, np.zeros(count, np.uint8), table)


def take_values(count: int, dtype: torch.dtype, parts: Iterator[bytes]) -> Tensor:
    planes = [_take_plane(count, parts) for _ in range(dtype.itemsize)]
    if not count:
        return torch.zeros(0, dtype=dtype)
    raw = np.ascontiguousarray(np.stack(planes, axis=1))
    if dtype is torch.float32:
        turned = raw.view("<u4")
        raw = ((turned >> 1) | (turned << 31)).view(np.uint8)
    return torch.from_numpy(raw.reshape(-1).copy()).view(dtype)


def _planes(values: Tensor) -> list[Symbols]:
    """The bytes of each place. float32 is turned by a bit, so that the last is its exponent."""
    raw = values.contiguous().view(torch.uint8).numpy().reshape(len(values), values.itemsize)
    if values.dtype is torch.float32:
        whole = np.ascontiguousarray(raw).view("<u4")
        raw = ((whole << 1) | (whole >> 31)).view(np.uint8)
    return [np.ascontiguousarray(plane) for plane in raw.T]


def one_size(kept: Tensor) -> bool:
    """Whether these are plus or minus one number over 0, at least one of them."""
    if not kept.is_floating_point() or not len(kept):
        return False
    size = kept.abs()
    return bool((size == size[0]).all()) and bool(size[0] > 0)


def put_signs(kept: Tensor, parts: list[bytes]) -> None:
    """The size, then a bit for each: 1 where negative."""
    put_values(kept[:1].abs(), parts)
    _put_plane(np.packbits((kept < 0).numpy(), bitorder="little"), parts)


def take_signs(count: int, dtype: torch.dtype, parts: Iterator[bytes]) -> Tensor:
    size = take_values(1, dtype, parts)
    packed = _take_plane((count + 7) // 8, parts)
    negative = np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
    return torch.where(torch.from_numpy(negative), -size, size)


def narrowed(name: str, kept: Tensor, rows: Tensor, precision: str, parts: list[bytes]) -> Tensor:
    """float16, or int8 with a scale for each output unit, whose largest weight is 127."""
    if precision == "float16":
        found = kept.half()
        if not bool(found.isfinite().all()):
            raise ShipError(f"{name!r} has weights beyond float16; ship it as float32 or int8.")
        return found
    if not bool(kept.isfinite().all()):
        raise ShipError(f"{name!r} has weights that are no numbers; int8 cannot hold them.")
    units = int(rows.max()) + 1 if len(rows) else 0
    most = torch.zeros(units).scatter_reduce(0, rows, kept.abs(), "amax")
    scale = torch.where(most > 0, most / 127, torch.ones(()))
    parts.append(scale.numpy().astype("<f4").tobytes())
    return (kept / scale[rows]).round().clamp(-127, 127).to(torch.int8)


def widened(rows: Tensor, precision: str, count: int, parts: Iterator[bytes]) -> Tensor:
    if precision == "float16":
        return take_values(count, torch.float16, parts).float()
    scale = torch.from_numpy(np.frombuffer(next(parts), "<f4").copy())
    return take_values(count, torch.int8, parts).float() * scale[rows]


def inflated(raw: bytes) -> bytes:
    """What zlib has compressed, up to a bound."""
    return zlib.decompressobj().decompress(raw, MOST)
