"""Another score, for weights that kept their sign first, or for those that changed it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of


class Sign(Enum):
    """What training has done to the sign of a weight; zero has a sign of its own."""

    SAME = "as at initialisation"
    DIFFERENT = "not as at initialisation"


@dataclass(frozen=True, kw_only=True)
class BySign:
    """`of`, but every weight with this sign before every one without.

    The score is a rank: among those with the sign, and among those without, in the order of `of`;
    all tensors together, so that it also serves where they compete. Equal scores, equal ranks.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 2 and the masks of section 5. Differs: the
    authors' code gives weights without the sign score 0, which is the lowest only for scores that
    are never negative (not for magnitude increase), and so takes them at random.
    """

    of: Score
    sign: Sign = Sign.SAME

    @property
    def needs(self) -> frozenset[Need]:
        return self.of.needs | {Need.TRAINED}

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return examples_of(self.of)

    def __call__(self, at: Snapshot, probe: Probe) -> Mapping[str, Tensor]:
        ranks, found = ranked(self.of(at, probe)), {}
        above = sum(layer.count for layer in at.layers)
        for layer in at.layers:
            same = at.start[layer.name].sign() == at.end[layer.name].sign()
            first = same if self.sign is Sign.SAME else ~same
            found[layer.name] = ranks[layer.name] + above * first
        return found


def ranked(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How many different scores are lower, over all tensors; float64.

    Example:
        >>> ranked({"a": torch.tensor([3., -1.]), "b": torch.tensor([[3.], [0.]])})["a"]
        tensor([2., 0.], dtype=torch.float64)
    """
    flat = torch.cat([score.flatten().double() for score in scores.values()])
    ranks = torch.unique(flat, return_inverse=True)[1].double()
    parts = ranks.split([score.numel() for score in scores.values()])
    return {
        name: part.reshape(score.shape)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }
