"""N of every M: as many weights in each short run along the inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.kind import not_a
from tombola.pieces.rule import Cut, too_few
from tombola.pieces.schedule import Target, round_half_up
from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import Mask


@dataclass(frozen=True, kw_only=True)
class NOfM:
    """Keep the n highest scores of every m consecutive inputs of an output, n = density x m.

    Runs lie along dimension 1 of a tensor (inputs of a linear layer; input channels of a
    convolution, each place of its window by itself), where hardware wants them. Exactly n of each:
    what an earlier cut has left of a run may not be fewer. At density 1/2 and m = 4 that is 2:4.
    Ties go to the lower input.

    Source: Zhou et al. 2021, Learning N:M Fine-grained Structured Sparse Neural Networks From
    Scratch (arXiv 2102.04010), for the pattern and, in the authors' code, for runs of input
    channels (in the paper's text they follow the layout of the kernel); theirs recomputes the mask
    at every step, here it is cut like any other.

    Raises:
        RecipeError: what is given is no score; `m` below 2.
    """

    moves_weights: ClassVar[bool] = False

    score: Score
    m: int = 4

    def __post_init__(self) -> None:
        wrong = not_a(Score, self.score)
        if wrong:
            raise RecipeError(f"NOfM(score=...): {wrong}.")
        if not isinstance(self.m, int) or isinstance(self.m, bool) or self.m < 2:
            raise RecipeError(f"NOfM(m={self.m!r}): want a whole number, 2 or more.")

    @property
    def needs(self) -> frozenset[Need]:
        return self.score.needs

    def refuses(self, setting: Setting) -> str | None:
        wanted = examples_of(self.score)
        if wanted > setting.examples:
            return too_few(type(self.score).__name__, wanted, setting)
        for layer in setting.layers:
            if len(layer.shape) < 2 or layer.shape[1] % self.m:
                return (
                    f"NOfM(m={self.m}) does not divide the inputs of {layer.name!r}, which has "
                    f"shape {layer.shape}: want dimension 1 to be a multiple of {self.m}. Leave it "
                    f"out: Scope(exclude=({layer.name!r},))."
                )
        for target in setting.targets:
            if target.round and self._share(setting.layers, target) is None:
                steps = ", ".join(f"{n / self.m:g}" for n in range(1, self.m))
                return (
                    f"NOfM(m={self.m}) keeps the same share of every tensor, one of {steps}; round "
                    f"{target.round} asks for density {target.density:.4g}"
                    + (f", counts {dict(target.counts)}." if target.counts else ".")
                    + " Take the schedule Densities(values=(...)) with such densities."
                )
        return None

    def _share(self, layers: tuple[Layer, ...], target: Target) -> int | None:
        """n, if the target asks for that of every tensor."""
        n = round_half_up(target.density * self.m)
        if target.counts is not None:
            same = all(target.counts[x.name] * self.m == n * x.count for x in layers)
            return n if same else None
        return n if abs(target.density * self.m - n) < 1e-9 else None

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        n = round_half_up(target.density * self.m)
        return {layer.name: layer.count * n // self.m for layer in layers}

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        scores, n = self.score(at, probe), round_half_up(target.density * self.m)
        kept = {}
        for layer in at.layers:
            prior = at.mask.of(layer.name, layer.shape)
            kept[layer.name] = n_of_m(scores[layer.name], prior, n, self.m, layer.name)
        return Cut(mask=Mask(kept))


def n_of_m(scores: Tensor, prior: Tensor, n: int, m: int, name: str) -> Tensor:
    """The mask that keeps the n highest scores of every m along dimension 1, of those in `prior`.

    Raises:
        RecipeError: a run has fewer than n left; or a score that is not finite.

    Example:
        >>> scores = torch.tensor([[1., 9., 2., 3.]])
        >>> n_of_m(scores, torch.ones(1, 4, dtype=torch.bool), 2, 4, "fc")
        tensor([[False,  True, False,  True]])
    """
    if not bool(torch.isfinite(scores).all()):
        raise RecipeError(
            f"the score of {name!r} has NaN or infinity, so weights cannot be ranked."
        )
    runs, left = (t.movedim(1, -1).unflatten(-1, (-1, m)) for t in (scores.double(), prior))
    fewest = int(left.sum(dim=-1).min())
    if fewest < n:
        raise RecipeError(
            f"{name!r} has runs of {m} weights of which only {fewest} are left, {n} are to be "
            "kept: cut it by NOfM from the start."
        )
    # Of equal scores the lower input goes first: a stable sort keeps their order.
    order = runs.masked_fill(~left, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    kept = torch.zeros_like(left).scatter_(-1, order[..., :n], True)
    return kept.flatten(-2).movedim(-1, 1).contiguous()
