"""Magnitude of the trained weight."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """|w| at the end of training.

    Source: Frankle & Carbin 2019 (arXiv 1803.03635), section 1, step 3. The authors' codes drop
    everything at or below a threshold and so one weight too many; here counts are exact (`rule`).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED})

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        return {layer.name: at.end[layer.name].abs() for layer in at.layers}
