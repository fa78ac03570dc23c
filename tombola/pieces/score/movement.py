"""How far a weight has moved."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class Movement:
    """|w_f - w_i|: w_i the initial weight, w_f the one at the moment of the cut.

    Source: Zhou, Lan, Liu & Yosinski 2019 (arXiv 1905.01067), section 2. Not the movement pruning
    of later literature, which accumulates gradient times weight.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED})

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        return {x.name: (at.end[x.name] - at.start[x.name]).abs() for x in at.layers}
