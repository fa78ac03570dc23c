"""Initial values drawn anew."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.action.action import Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Reinit:
    """The initial values of the whole tensor, permuted: a draw without replacement from them.

    Values of weights that are cut come back at others. Source: Zhou et al. 2019 (arXiv 1905.01067),
    section 3; so the authors' code draws. For values from the initialiser itself compare with the
    control `reinit`, which is drawn once for all rounds.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, at: Site) -> Tensor:
        order = torch.randperm(at.start.numel(), generator=at.stream("reinit"))
        return at.start.flatten()[order].reshape(at.start.shape)
