"""Fresh values, each unit's as large as the number of its connections wants them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.action.action import Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class FanIn:
    """Normal with variance scale / max(1, F), F the connections that come into the weight's unit.

    A unit is a row of the tensor (its first dimension), F what the mask keeps of it: input channels
    times places of the kernel. So what a unit adds up has the same variance however sparse it is,
    which an initialiser for dense layers makes smaller by the density.

    scale: 2 for units followed by ReLU. Source: Evci et al. 2022 (arXiv 2010.03533), section 3; the
    scale of 2 is the paper's, from memory, the authors' code has 1.

    Raises:
        RecipeError: a scale that is not above 0.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    scale: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.scale < float("inf"):
            raise RecipeError(f"FanIn(scale={self.scale}): want a number over 0, for example 2.")

    def __call__(self, at: Site) -> Tensor:
        fan_in = at.kept.flatten(1).sum(dim=1).clamp(min=1)
        deviation = (self.scale / fan_in.to(at.start.dtype)).sqrt()
        draw = torch.randn(at.start.shape, generator=at.stream("fan-in"), dtype=at.start.dtype)
        return draw * deviation.reshape(-1, *[1] * (at.start.dim() - 1))
