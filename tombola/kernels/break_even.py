"""Below which density a kernel beats dense products: measured, and kept as data.

`auto` looks here and never at a clock, so that a training is the same whenever and wherever it is
run. `tombola bench step --table` prints the entries anew.
"""

from bisect import bisect_left

# kernel -> (weights of the whole network, density up to which the kernel is faster), by size
BREAK_EVEN: dict[str, tuple[tuple[int, float], ...]] = {
    "c": ((60_000, 1.0), (300_000, 0.9), (3_000_000, 0.5)),
    "c plain": ((60_000, 0.5), (300_000, 0.3), (3_000_000, 0.2)),
    "numba": ((60_000, 0.5), (300_000, 0.2), (3_000_000, 0.1)),
    "torch": (),
}


def break_even(kernel: str, weights: int) -> float:
    """The density from which on dense products are faster, for a chain of so many weights; beyond
    the largest measured, that one's; 0 where the kernel never pays.

    >>> break_even("torch", 1_000)
    0.0
    """
    rows = BREAK_EVEN[kernel]
    if not rows:
        return 0.0
    place = bisect_left([size for size, _ in rows], weights)
    return rows[min(place, len(rows) - 1)][1]
