"""High in two scores at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of


@dataclass(frozen=True, kw_only=True)
class Both:
    """min(q_1, q_2): q_i the quantile of a weight in score i, within its tensor.

    The quantile is the fraction of the tensor's weights still kept that score no more than this
    one, in (0, 1]. A weight stays, then, if it is above the same quantile in both. Of the initial
    and the final magnitude: large init large final; of both reversed: small init small final.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 2. The authors' code searches the quantile
    by bisection, to a ten-thousandth of a per cent, and may miss the count; here it is exact.
    Quantiles of pairs often tie (one weight has it in the first score, another in the second).
    """

    first: Score
    second: Score

    @property
    def needs(self) -> frozenset[Need]:
        return self.first.needs | self.second.needs

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return examples_of(self.first, self.second)

    def __call__(self, at: Snapshot, probe: Probe) -> Mapping[str, Tensor]:
        first, second = self.first(at, probe), self.second(at, probe)
        found = {}
        for layer in at.layers:
            kept = at.mask.of(layer.name, layer.shape)
            found[layer.name] = torch.minimum(
                quantiles(first[layer.name], kept), quantiles(second[layer.name], kept)
            )
        return found


def quantiles(score: Tensor, among: Tensor) -> Tensor:
    """For each entry, the fraction of those where `among` is True that are not larger, float64.

    Example:
        >>> quantiles(torch.tensor([5., 1., 1., 9.]), torch.tensor([True, True, True, False]))
        tensor([1.0000, 0.6667, 0.6667, 1.0000], dtype=torch.float64)
    """
    held = score[among].sort().values
    not_larger = torch.searchsorted(held, score.contiguous(), right=True)
    return not_larger.double() / max(1, len(held))
