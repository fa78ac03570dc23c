"""The inverse of a damped empirical Fisher matrix, without the matrix.

F = damping I + (1/N) G^T G, with one gradient in each of the N rows of G (N, c). All of it follows
from a matrix of N x N: with K = damping N I + G G^T, F^-1 = (I - G^T K^-1 G) / damping (Woodbury's
identity). WoodFisher comes to the same by N updates of rank one of a matrix of c x c; for blocks
wider than N this takes less time, and memory that does not grow with c^2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InverseFisher:
    """F^-1 of some gradients, as something to multiply with.

    gradients: G, (N, c) float64. damping: positive.

    Example:
        >>> gradients = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
        >>> inverse = InverseFisher.of(gradients, 1.0)  # of [[2, 1], [1, 2]]
        >>> inverse.times(torch.tensor([3.0, 0.0]).double())
        tensor([ 2.0000, -1.0000], dtype=torch.float64)
    """

    gradients: Tensor
    damping: float
    factor: Tensor  # lower Cholesky factor of K, (N, N)

    @classmethod
    def of(cls, gradients: Tensor, damping: float) -> "InverseFisher":
        """Factors K; always possible, since the damping makes it positive."""
        inner = gradients @ gradients.T
        inner.diagonal().add_(damping * len(gradients))
        return cls(gradients, damping, torch.linalg.cholesky(inner))

    def diagonal(self) -> Tensor:
        """(c,). No entry falls short of 1 / F_qq, which holds for every inverse: so what rounding
        takes where F_qq is far above the damping cannot make a weight look irreplaceable."""
        inner = torch.linalg.solve_triangular(self.factor, self.gradients, upper=False)
        least = 1.0 / (self.damping + self.gradients.square().mean(0))
        return torch.maximum((1.0 - inner.square().sum(0)) / self.damping, least)

    def times(self, vector: Tensor) -> Tensor:
        """F^-1 v, (c,)."""
        inner = torch.cholesky_solve((self.gradients @ vector)[:, None], self.factor)[:, 0]
        return (vector - self.gradients.T @ inner) / self.damping


def one_at_a_time(weights: Tensor, gradients: Tensor, damping: float, kept: Tensor) -> Tensor:
    """The weights after the sum of what each cut weight alone would ask of the others.

    Cutting q alone moves all by -(w_q / [F^-1]_qq) F^-1 e_q. Summed over many this overshoots:
    what two have in common is made up for twice. weights, kept: (c,). Cut ones are +0.0.
    """
    inverse = InverseFisher.of(gradients, damping)
    asked = torch.where(kept, torch.zeros_like(weights), weights) / inverse.diagonal()
    return torch.where(kept, weights - inverse.times(asked), torch.zeros_like(weights))


def all_at_once(weights: Tensor, gradients: Tensor, damping: float, kept: Tensor) -> Tensor:
    """The weights that lose least by the quadratic model among those with these ones cut.

    Kept weights move by F_RR^-1 F_RQ w_Q, R kept and Q cut, which is
    G_R^T (damping N I + G_R G_R^T)^-1 G_Q w_Q: the ridge regression of what the cut weights did for
    each example on what the kept ones can do. weights, kept: (c,). Cut ones are +0.0.

    Example:
        >>> gradients = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
        >>> kept = torch.tensor([False, True])
        >>> all_at_once(torch.ones(2, dtype=torch.float64), gradients, 0.25, kept)
        tensor([0.0000, 1.8000], dtype=torch.float64)
    """
    stays, goes = gradients[:, kept], gradients[:, ~kept]
    inner = stays @ stays.T
    inner.diagonal().add_(damping * len(gradients))
    lost = (goes @ weights[~kept])[:, None]
    found = torch.zeros_like(weights)
    ridge = torch.cholesky_solve(lost, torch.linalg.cholesky(inner))[:, 0]
    found[kept] = weights[kept] + stays.T @ ridge
    return found
