"""Entropy coding of symbols whose frequencies are known: interleaved rANS in numpy.

Source: Duda 2013 (arXiv 1311.2540); interleaving as in Giesen 2014 (arXiv 1402.3392). Whole numbers
only, so a stream has the same bytes and the same meaning on every machine.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 14
WHOLE = 1 << BITS  # what the frequencies of a context add up to
LOW = 1 << 16  # a state is in [2^16, 2^32) between symbols, and moves 16 bits at a time
TURNS = 2_048  # symbols a lane has; a lane costs 4 bytes, a turn some microseconds
MOST_LANES = 8_192

Symbols = NDArray[np.uint8]
Table = NDArray[np.int64]


def frequencies(counts: Table) -> Table:
    """Whole numbers near to the proportions of `counts` (contexts, symbols), at least 1 where there
    is a count; each context's add up to 2^14, or to 0 if it has no counts.

    >>> frequencies(np.array([[1, 0, 3], [0, 0, 0]])).tolist()
    [[4096, 0, 12288], [0, 0, 0]]
    """
    total = counts.sum(axis=1, keepdims=True)
    found = np.where(counts > 0, np.maximum(1, counts * WHOLE // np.maximum(total, 1)), 0)
    # What rounding left over goes to the most frequent symbol, where it costs least.
    context, most = np.flatnonzero(total[:, 0]), found.argmax(axis=1)
    found[context, most[context]] += WHOLE - found[context].sum(axis=1)
    return found


def cost(counts: Table) -> float:
    """Bytes that symbols take which are coded by their own frequencies.

    >>> cost(np.array([[8, 8]]))
    2.0
    """
    table, seen = frequencies(counts), counts > 0
    return float((counts[seen] * (BITS - np.log2(table[seen]))).sum() / 8)


def encode(symbols: Symbols, contexts: NDArray[Any], table: Table) -> bytes:
    """A stream of symbols, (n,). contexts: (n,), the row of `table` that each is coded by.

    >>> text, context = np.array([0, 0, 1, 0], dtype=np.uint8), np.zeros(4, dtype=np.uint8)
    >>> table = frequencies(np.array([[3, 1]]))
    >>> decode(encode(text, context, table), context, table).tolist()
    [0, 0, 1, 0]
    """
    lanes, before = _lanes(len(symbols)), _before(table)
    states = np.full(lanes, LOW, dtype=np.int64)
    words: list[NDArray[np.uint16]] = []
    for begin in reversed(range(0, len(symbols), lanes)):
        symbol, context = symbols[begin : begin + lanes], contexts[begin : begin + lanes]
        often, state = table[context, symbol], states[: len(symbol)]
        full = state >= often << (32 - BITS)
        words.append((state[full] & 0xFFFF).astype(np.uint16))
        state[full] >>= 16
        turns, rest = np.divmod(state, often)
        state[:] = (turns << BITS) + rest + before[context, symbol]
    moved = np.concatenate([np.empty(0, np.uint16), *reversed(words)])
    return states.astype("<u4").tobytes() + moved.astype("<u2").tobytes()


def decode(stream: bytes, contexts: NDArray[Any], table: Table) -> Symbols:
    """The symbols that `encode` was given.

    Raises:
        ValueError: the stream is not one of these contexts and this table.
    """
    lanes, before, symbol_at = _lanes(len(contexts)), _before(table), _slots(table)
    states = np.frombuffer(stream, "<u4", lanes).astype(np.int64)
    words = np.frombuffer(stream, "<u2", offset=4 * lanes).astype(np.int64)
    symbols, read = np.empty(len(contexts), dtype=np.uint8), 0
    for begin in range(0, len(contexts), lanes):
        context = contexts[begin : begin + lanes]
        state = states[: len(context)]
        slot = state & (WHOLE - 1)
        symbol = symbol_at[context, slot]
        state[:] = table[context, symbol] * (state >> BITS) + slot - before[context, symbol]
        empty = np.flatnonzero(state < LOW)
        state[empty] = (state[empty] << 16) | words[read : read + len(empty)]
        read += len(empty)
        symbols[begin : begin + lanes] = symbol
    if read != len(words) or (states != LOW).any():
        raise ValueError("the stream does not end where it should")
    return symbols


def _lanes(count: int) -> int:
    return min(max(1, count // TURNS), MOST_LANES)


def _before(table: Table) -> Table:
    """Sum of the frequencies of lower symbols."""
    return table.cumsum(axis=1) - table


def _slots(table: Table) -> Symbols:
    """(contexts, 2^14): which symbol a slot belongs to."""
    found = np.zeros((len(table), WHOLE), dtype=np.uint8)
    symbols = np.arange(table.shape[1], dtype=np.uint8)
    for context, often in enumerate(table):
        if often.any():
            found[context] = np.repeat(symbols, often)
    return found
