"""One magnitude for all weights of a tensor, with random signs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.action.action import Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Constant:
    """+-sigma: the standard deviation of the tensor's initial values, the signs of these permuted.

    sigma is that of all weights of the tensor, kept or not (n in the denominator). With the
    original sign at each weight: `KeepSign(of=Constant())`. The sign of 0 is +. Source: Zhou et al.
    2019 (arXiv 1905.01067), section 3.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, at: Site) -> Tensor:
        order = torch.randperm(at.start.numel(), generator=at.stream("signs"))
        drawn = at.start.flatten()[order].reshape(at.start.shape)
        sigma = deviation(at.start)
        return torch.where(drawn < 0, -sigma, sigma)


def deviation(values: Tensor) -> Tensor:
    """Standard deviation with n in the denominator, taken in float64; a scalar of their dtype.

    Example:
        >>> deviation(torch.tensor([1.0, -1.0, 3.0, -3.0])).square()
        tensor(5.)
    """
    return values.double().std(correction=0).to(values.dtype)
