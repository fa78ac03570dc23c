"""Initial values with noise."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.action.action import Site
from tombola.pieces.action.constant import deviation
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The initial values plus Gaussian noise of `sigmas` times their standard deviation.

    The deviation is that of all weights of the tensor. In each round drawn anew, and added to the
    initial values, not to those of the round before. Source: Frankle & Carbin 2019 (arXiv
    1803.03635), their noise of .5, 1, 2 and 3 layer deviations.

    Raises:
        RecipeError: `sigmas` below 0 or not finite.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    sigmas: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.sigmas < math.inf:
            raise RecipeError(
                f"Noise(sigmas={self.sigmas}): want how many standard deviations of the initial "
                "values, 0 or more, for example 0.5."
            )

    def __call__(self, at: Site) -> Tensor:
        draw = torch.empty_like(at.start).normal_(generator=at.stream("noise"))
        return at.start + self.sigmas * deviation(at.start) * draw
