"""Below which density a kernel beats dense products: measured, and kept as data beside this file.

`auto` looks here and never at a clock, so that a training is the same whenever and wherever it is
run. `tombola bench auto --out tombola/kernels/break_even.json` measures all of it anew; the rows of
a kernel are part of the name of every result that `auto` made with it.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

Rows = tuple[tuple[float, float], ...]
_TABLE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)

# kernel -> (weights of the whole network, density up to which the kernel is faster), by size
BREAK_EVEN: dict[str, Rows] = {
    kernel: tuple(map(tuple, rows)) for kernel, rows in _TABLE["chains"].items()
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
# batches of 60 to 128
LAYER_BREAK_EVEN: dict[str, dict[str, Rows]] = {
    kernel: {kind: tuple(map(tuple, rows)) for kind, rows in kinds.items()}
    for kernel, kinds in _TABLE["layers"].items()
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
