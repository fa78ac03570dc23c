"""Values drawn from the initial values of the survivors."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.action.action import Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Each weight draws, with replacement, from its tensor's surviving initial values.

    The empirical distribution that the cut leaves, which is far from the one before it (few values
    near zero). Where nothing survives, the initial values. Source: Frankle & Carbin 2019 (arXiv
    1803.03635), their reinitialisation from the distribution of surviving weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, at: Site) -> Tensor:
        survivors = at.start[at.kept]
        if not len(survivors):
            return at.start.clone()
        stream = at.stream("resample")
        return survivors[torch.randint(len(survivors), at.start.shape, generator=stream)]
