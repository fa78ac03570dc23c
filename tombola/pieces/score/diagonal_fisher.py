"""Diagonal Fisher: Optimal Brain Damage with squared gradients for curvature."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.score.curvature import (
    by_tensor,
    check_gradients,
    flat,
    gradients_one_by_one,
)
from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class DiagonalFisher:
    """f w^2 / 2 per weight: f the mean over examples of the squared gradient of each one's loss.

    The empirical Fisher matrix, with the labels of the data, on its diagonal. For a log-likelihood
    it stands for the Hessian as well as the network fits the data in general and not in each case:
    where every example is fitted, gradients vanish, and so do all scores. Shapes: as the weights;
    float64.

    gradients: how many. batch_size: examples of which each is the mean; more than one is another
    quantity, smaller by about that factor, in which examples cancel each other.

    Source: Theis, Korshunova, Tejani & Huszár 2018 (arXiv 1801.05787); the code of Singh & Alistarh
    2020, WoodFisher (arXiv 2004.14340), has it as a baseline. Differs from that code: there 1e-4 is
    added to what is ranked, so that kept weights without curvature rank above those already cut;
    here cut ones are out of the running.

    Raises:
        RecipeError: no gradient, or one of no example.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED, Need.BATCHES})

    gradients: int = 1_000
    batch_size: int = 1

    def __post_init__(self) -> None:
        check_gradients("DiagonalFisher", self.gradients, self.batch_size)

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return self.gradients * self.batch_size

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        total = torch.zeros(sum(layer.count for layer in at.layers), dtype=torch.float64)
        for slope in gradients_one_by_one(at, probe, self.gradients, self.batch_size):
            total += slope.double().square()
        weights = flat(at.end, at.layers).double()
        return by_tensor(total / self.gradients * weights.square() / 2, at.layers)
