"""Below which density a kernel beats dense products: measured, and kept as data.

`auto` looks here and never at a clock, so that a training is the same whenever and wherever it is
run. `tombola bench step` measures the density for a world, `benchmarks/layers.py` those for layers.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import prod

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


# kernel -> kind of layer -> (intensity, density up to which the kernel is faster), one thread and
# batches of 60 to 128; `benchmarks/layers.py` prints them anew
LAYER_BREAK_EVEN: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "c": {"linear": ((70.0, 0.3), (200.0, 0.35)), "conv": ((45.0, 0.15), (280.0, 0.25))},
    "c plain": {"linear": ((70.0, 0.2),), "conv": ((280.0, 0.05),)},
    "numba": {"linear": (), "conv": ()},
    "torch": {"linear": (), "conv": ()},
}


def intensity(weight: Sequence[int], image: Sequence[int], stride: Sequence[int]) -> float:
    """Multiplications at full density for each number that goes in or comes out of a layer.

    weight: (outputs, channels, height, width). image: channels, height, width.

    >>> intensity((64, 64, 3, 3), (64, 32, 32), (1, 1))
    288.0
    """
    pixels = image[1] * image[2]
    sums = pixels / (stride[0] * stride[1])
    return prod(weight) * sums / (weight[1] * pixels + weight[0] * sums)


def layer_break_even(kernel: str, kind: str, intense: float) -> float:
    """The density from which on a dense layer is faster, by the largest measured intensity that is
    not above; 0 where the kernel never pays.

    >>> layer_break_even("torch", "conv", 288.0)
    0.0
    """
    limits = [limit for least, limit in LAYER_BREAK_EVEN[kernel][kind] if least <= intense]
    return limits[-1] if limits else 0.0
