"""LAMP: how much of its tensor's remaining size a weight carries, comparable between tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tombola.pieces.score.magnitude import Magnitude
from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of


@dataclass(frozen=True, kw_only=True)
class LAMP:
    """w^2 / (sum of v^2 over the weights v of the same tensor that are at least as large as w).

    For one ranking of all tensors together (`Global`): layer-adaptive magnitude pruning. Of two
    equal weights the one of lower index counts as the larger, so the largest of each tensor scores
    1 and no tensor loses its last weight before all others have lost all but one. Cut weights
    count for nothing and score 0.

    of: the ranking inside each tensor. The sizes of the weights then say how much each tensor keeps
    and `of` says which: the k-th highest in `of` gets the k-th highest of the numbers above. With
    the default, magnitude, both are one. Where a target sets counts, only `of` matters.

    Source: Lee, Park, Mo, Ahn & Shin 2021 (arXiv 2010.07611), equation 1; `of` is ours.

    Example:
        >>> lamp(torch.tensor([3., 4., 0.]))
        tensor([1.0000, 0.3600, 0.0000], dtype=torch.float64)
    """

    of: Score = field(default_factory=Magnitude)

    @property
    def needs(self) -> frozenset[Need]:
        return self.of.needs

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return examples_of(self.of)

    def __call__(self, at: Snapshot, probe: Probe) -> Mapping[str, Tensor]:
        inside, found = self.of(at, probe), {}
        for layer in at.layers:
            kept = at.mask.of(layer.name, layer.shape)
            order = inside[layer.name][kept].sort(descending=True, stable=True).indices
            among_kept = torch.empty(len(order), dtype=torch.float64)
            among_kept[order] = lamp(at.end[layer.name][kept])
            found[layer.name] = torch.zeros(layer.shape, dtype=torch.float64)
            found[layer.name][kept] = among_kept
        return found


def lamp(weights: Tensor) -> Tensor:
    """The scores of some weights, from the highest down; float64."""
    squares = weights.double().square().sort(descending=True).values
    return squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
