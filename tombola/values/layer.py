"""A tensor that may be pruned, described without the network it is part of."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One prunable weight tensor.

    kind: `linear`, `conv`, `attention`, or `output` for the last prunable tensor of the network.
    rate: fraction of the surviving weights kept in each round of a geometric schedule.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    rate: float

    @property
    def count(self) -> int:
        """Number of weights.

        >>> Layer(name="fc", shape=(3, 4), kind="linear", rate=.8).count
        12
        """
        return math.prod(self.shape)
