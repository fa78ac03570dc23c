"""The initial values of the survivors, permuted among them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.action.action import Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Reshuffle:
    """Survivors of a tensor exchange their initial values; cut weights keep theirs.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 3.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, at: Site) -> Tensor:
        values, survivors = at.start.clone(), at.start[at.kept]
        order = torch.randperm(len(survivors), generator=at.stream("reshuffle"))
        values[at.kept] = survivors[order]
        return values
