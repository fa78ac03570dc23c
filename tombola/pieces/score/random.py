"""A random score: the floor every criterion must beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class Random:
    """Uniform on [0, 1), one stream for each tensor and seed."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        return {
            layer.name: torch.rand(layer.shape, generator=probe.stream("random-score", layer.name))
            for layer in at.layers
        }
