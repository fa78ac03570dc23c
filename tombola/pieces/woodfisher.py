"""WoodFisher: Optimal Brain Surgeon with the empirical Fisher matrix, block by block."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Global
from tombola.pieces.fisher import InverseFisher, all_at_once, one_at_a_time
from tombola.pieces.kind import not_a
from tombola.pieces.memory import check_limit, gigabytes
from tombola.pieces.rule import Cut, asked_of, too_few, unshared
from tombola.pieces.schedule import Target
from tombola.pieces.score.curvature import (
    by_tensor,
    check_gradients,
    flat,
    gradients_one_by_one,
    moved,
    still_there,
)
from tombola.pieces.score.score import Need, Probe, Snapshot
from tombola.pieces.select import keep_best
from tombola.pieces.setting import Setting
from tombola.pieces.stepwise import ways
from tombola.values.layer import Layer


class Update(Enum):
    """How kept weights make up for cut ones."""

    NONE = "not at all"
    SINGLE = "by the sum of what each cut weight alone asks for"
    JOINT = "by what all cut weights of a block ask for together"


@dataclass(frozen=True, kw_only=True)
class WoodFisher:
    """Cut the weights whose loss rises least once the others of their block have made up for it.

    With F = damping I + (1/N) sum_i g_i g_i^T over a block of weights, cutting weight q raises the
    loss by w_q^2 / (2 [F^-1]_qq) when the others of the block move by -(w_q / [F^-1]_qq) F^-1 e_q.
    g_i: gradient of the mean loss of batch i by the weights still there; a cut one has no part in
    F. As many as asked for go at once, ties to the lower index; then the others move (`update`).

    gradients: N. batch_size: examples in each of them. block: weights side by side in a tensor, in
    its own order (so weights into one unit mostly), over which F is taken; blocks do not cross
    tensors; None is each tensor whole. damping: in units of F; towards infinity the order is that
    of magnitudes, which is also what becomes of it where every example is fitted and gradients
    vanish. steps: the cut is made in so many, the same fraction in each, with gradients taken anew
    at the weights as moved. allocation: all tensors together by default, or so much of each.
    limit: the most memory, in GB, that gradients may take: 4 N bytes for each weight, kept in
    float32. All else is in float64, 8 N^2 bytes and a block's gradients at a time.

    Source: Singh & Alistarh 2020, WoodFisher (arXiv 2004.14340), sections 3 and 4; 400 gradients,
    blocks of 2,000 and a damping of 1e-5 are those of their scripts for ImageNet, where each
    gradient is the mean of 400 examples. Differs: counts are exact; F^-1 comes by way of a matrix
    of N x N (`InverseFisher`), where they update one of block x block N times, which gives the
    same; `Update.SINGLE` is theirs, JOINT is the exact optimum of the same model (Kurtic et al.
    2022, arXiv 2203.07259, for groups).

    Raises:
        RecipeError: a field out of range; a target that keeps more than is left.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED, Need.BATCHES})
    moves_weights: ClassVar[bool] = True

    gradients: int = 400
    batch_size: int = 1
    block: int | None = 2_000
    damping: float = 1e-5
    update: Update = Update.JOINT
    steps: int = 1
    allocation: Allocation = field(default_factory=Global)
    limit: float = 4.0

    def __post_init__(self) -> None:
        check_gradients("WoodFisher", self.gradients, self.batch_size)
        for what in ("block", "steps"):
            value = getattr(self, what)
            if not (value is None and what == "block") and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise RecipeError(f"WoodFisher({what}={value!r}): want a whole number, 1 or more.")
        if not 0.0 < self.damping < float("inf"):
            raise RecipeError(
                f"WoodFisher(damping={self.damping}): want a positive number, for example 1e-5; "
                "without it the Fisher matrix of fewer gradients than weights has no inverse."
            )
        check_limit("WoodFisher", self.limit)
        wrong = not_a(Allocation, self.allocation)
        if wrong or not isinstance(self.update, Update):
            wrong = wrong or f"update={self.update!r}: want one of {', '.join(map(str, Update))}"
            raise RecipeError(f"WoodFisher: {wrong}.")

    def refuses(self, setting: Setting) -> str | None:
        wanted = self.gradients * self.batch_size
        if wanted > setting.examples:
            return too_few("WoodFisher", wanted, setting)
        count = sum(layer.count for layer in setting.layers)
        fit = int(self.limit * 1e9 / (4 * count))
        if fit < self.gradients:
            fewer = f"fewer gradients ({fit} would do); " if fit else ""
            return (
                f"WoodFisher(gradients={self.gradients}) keeps that many gradients of {count:,} "
                f"weights in scope, {gigabytes(4 * self.gradients * count)} of memory, and its "
                f"limit is {self.limit:g} GB. Take {fewer}a form that scales, `layerwise` "
                "(LayerwiseLeastSquares), which looks at one layer at a time, or `fisher` "
                "(DiagonalFisher); or raise `limit`."
            )
        return unshared(self, setting)

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return asked_of(self.allocation, layers, target)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        left = {layer.name: at.mask.kept(layer.name, layer.count) for layer in at.layers}
        for count in ways(left, self.asks(at.layers, target), self.steps):
            at = self._step(at, probe, count)
        return Cut(mask=at.mask, params=at.mask.apply(at.end))

    def _step(self, at: Snapshot, probe: Probe, count: Mapping[str, int] | int) -> Snapshot:
        there, weights = still_there(at), flat(at.end, at.layers).double()
        gradients = self._gradients(at, probe, there)
        scores = torch.zeros_like(weights)
        blocks = list(self._blocks(at.layers, there))
        for places, columns in blocks:
            inverse = InverseFisher.of(gradients[:, columns].double(), self.damping)
            scores[places] = weights[places].square() / (2 * inverse.diagonal())
        mask = keep_best(by_tensor(scores, at.layers), at.layers, count, at.mask)
        if self.update is not Update.NONE:
            make_up = all_at_once if self.update is Update.JOINT else one_at_a_time
            kept = still_there(replace(at, mask=mask))
            for places, columns in blocks:
                if not bool(kept[places].all()):
                    block = gradients[:, columns].double()
                    weights[places] = make_up(weights[places], block, self.damping, kept[places])
        return replace(at, mask=mask, end=mask.apply(moved(at.end, weights, at.layers)))

    def _gradients(self, at: Snapshot, probe: Probe, there: Tensor) -> Tensor:
        """G over all weights still there, (N, still there) float32."""
        found = torch.empty(self.gradients, int(there.sum()))
        slopes = gradients_one_by_one(at, probe, self.gradients, self.batch_size)
        for row, slope in zip(found, slopes, strict=True):
            row.copy_(slope[there])
        return found

    def _blocks(self, layers: tuple[Layer, ...], there: Tensor) -> Iterator[tuple[Tensor, slice]]:
        """For each block with a weight still there: their places among the weights in scope, and
        their columns among those still there."""
        start = column = 0
        for layer in layers:
            for places in torch.arange(start, start + layer.count).split(self.block or layer.count):
                places = places[there[places]]
                if len(places):
                    yield places, slice(column, column + len(places))
                    column += len(places)
            start += layer.count
