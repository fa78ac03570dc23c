"""How much a weight has grown in magnitude."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class MagnitudeIncrease:
    """|w_f| - |w_i|: w_i the initial weight, w_f the one at the moment of the cut.

    Negative where a weight has shrunk. Source: Zhou, Lan, Liu & Yosinski 2019 (arXiv 1905.01067),
    section 2.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED})

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        return {x.name: at.end[x.name].abs() - at.start[x.name].abs() for x in at.layers}
