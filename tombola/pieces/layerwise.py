"""Layer-wise least squares: each layer's weights cut and moved so that its outputs stay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Uniform
from tombola.pieces.kind import not_a
from tombola.pieces.memory import check_limit, gigabytes
from tombola.pieces.rule import Cut, asked_of, too_few, unshared
from tombola.pieces.schedule import Target, round_half_up
from tombola.pieces.score.gradient import check_batches
from tombola.pieces.score.score import Need, Probe, Snapshot
from tombola.pieces.setting import Setting
from tombola.pieces.sweep import Block, factored, shared_out, sweep
from tombola.values.layer import Layer
from tombola.values.mask import Mask

BYTES = 32  # for each pair of inputs of a layer: their product, its factor, its inverse, theirs


@dataclass(frozen=True, kw_only=True)
class LayerwiseLeastSquares:
    """Cut each layer so that what it makes of its inputs changes least, and refit what stays.

    For a layer with weights W and inputs X the loss of a cut is |W X - W' X|^2, whose Hessian, X
    X^T, is the same for each unit; so one factor of it serves all of a layer's rows, and columns
    are cut in one sweep (`sweep`). Layer after layer in the order of the network, each on the
    inputs that it has once those before are cut. No gradients. Biases stay.

    batches, batch_size: of training examples. damping: a fraction of the mean of the diagonal of
    X X^T. columns: inputs whose weights compete; each block keeps the same share, save of dead
    inputs (always 0), whose weights are set to 0 and go first; None lets all inputs of a layer
    compete, before any has been refitted. pattern: (n, m), of every m inputs side by side each unit
    keeps n, the form that hardware for sparse products wants; the density is then n / m.
    allocation: how much each layer keeps; layers are not compared. limit: the most memory, in GB,
    that the products of inputs may take: 32 bytes for each pair of inputs to one layer. Besides
    there are the inputs of a batch, of convolutions as patches.

    Source: Frantar & Alistarh 2023, SparseGPT (arXiv 2301.00774), sections 3.3 and 3.4, after
    Hassibi & Stork 1993; damping 1 % and 128 columns are theirs. Differs: counts are exact, where
    their threshold cuts one more in each block; the first number of a pattern is of those kept,
    where in their code it is of those cut; every layer sees inputs of the network as cut so far,
    where theirs are those of a transformer's block; weights of dead inputs do not use up what a
    block may keep, nor count in the damping; float64.

    Raises:
        RecipeError: a field out of range; a target that keeps more than is left.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED, Need.BATCHES})
    moves_weights: ClassVar[bool] = True

    batches: int = 10
    batch_size: int = 100
    damping: float = 0.01
    columns: int | None = 128
    pattern: tuple[int, int] | None = None
    allocation: Allocation = field(default_factory=Uniform)
    limit: float = 4.0

    def __post_init__(self) -> None:
        check_batches("LayerwiseLeastSquares", self.batches, self.batch_size)
        if not 0.0 < self.damping < float("inf"):
            raise RecipeError(
                f"LayerwiseLeastSquares(damping={self.damping}): want a positive fraction of the "
                "mean of the diagonal, for example 0.01."
            )
        whole = isinstance(self.columns, int) and not isinstance(self.columns, bool)
        if self.columns is not None and not (whole and self.columns > 0):
            raise RecipeError(
                f"LayerwiseLeastSquares(columns={self.columns!r}): want a whole number, 1 or more, "
                "or None for all of a layer's."
            )
        check_limit("LayerwiseLeastSquares", self.limit)
        self._check_pattern()
        wrong = not_a(Allocation, self.allocation)
        if wrong:
            raise RecipeError(f"LayerwiseLeastSquares(allocation=...): {wrong}.")

    def _check_pattern(self) -> None:
        if self.pattern is None:
            return
        held = isinstance(self.pattern, tuple) and len(self.pattern) == 2
        if not held or not all(isinstance(one, int) for one in self.pattern):
            raise RecipeError(
                f"LayerwiseLeastSquares(pattern={self.pattern!r}): want two whole numbers, how "
                "many stay of how many, such as (2, 4)."
            )
        if not 0 < self.pattern[0] < self.pattern[1]:
            raise RecipeError(
                f"LayerwiseLeastSquares(pattern={self.pattern}): the first is how many stay of the "
                "second; want at least one, and fewer than all."
            )

    def refuses(self, setting: Setting) -> str | None:
        where, wanted = "LayerwiseLeastSquares", self.batches * self.batch_size
        if wanted > setting.examples:
            return too_few(where, wanted, setting)
        unfed = [layer.name for layer in setting.layers if layer.name not in setting.fed]
        if unfed:
            return (
                f"{where} fits layers to their inputs, which cannot be had for {unfed}: want "
                "weights of linear layers and convolutions that the network calls. Exclude them in "
                "the recipe's scope, or take WoodFisher."
            )
        widest = max(setting.layers, key=_width)
        takes = BYTES * _width(widest) ** 2
        if takes > self.limit * 1e9:
            return (
                f"{where} inverts the products of all {_width(widest):,} inputs of "
                f"{widest.name!r}, {gigabytes(takes)} of memory, and its limit is {self.limit:g} "
                "GB. Exclude that tensor in the recipe's scope; take `woodfisher` (WoodFisher) or "
                "`fisher` (DiagonalFisher); or raise `limit`."
            )
        return unshared(self, setting) or self._off_pattern(setting)

    def _off_pattern(self, setting: Setting) -> str | None:
        if self.pattern is None:
            return None
        keep, of = self.pattern
        odd = [layer.name for layer in setting.layers if _width(layer) % of]
        if odd:
            return (
                f"LayerwiseLeastSquares(pattern={self.pattern}): the inputs of {odd} are not a "
                f"multiple of {of}. Exclude those tensors in the recipe's scope."
            )
        total = sum(layer.count for layer in setting.layers)
        for target in setting.targets:
            asked = round_half_up(target.density * total)
            if target.round and asked != total * keep // of:
                return (
                    f"LayerwiseLeastSquares(pattern={self.pattern}) keeps {keep / of:g} of the "
                    f"weights, the schedule wants {target.density:g} in round {target.round}. "
                    f"Give the recipe schedule=Densities(values=({keep / of:g},))."
                )
        return None

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int]:
        if self.pattern is not None:
            keep, of = self.pattern
            return {layer.name: layer.count * keep // of for layer in layers}
        asked = asked_of(self.allocation, layers, target)
        if isinstance(asked, int):
            raise RecipeError(
                f"LayerwiseLeastSquares(allocation={self.allocation}): it does not compare weights "
                "of different layers, so wants an allocation that says how many each keeps, such "
                "as Uniform() or ERK()."
            )
        return asked

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        asked, now, kept = self.asks(at.layers, target), at.end, dict[str, Tensor]()
        batches = probe.batches(self.batches, self.batch_size)
        for layer in at.layers:
            rows = (probe.inputs(now, layer.name, batch) for batch in batches)
            products = sum(x.transpose(1, 2) @ x for x in (one.double() for one in rows))
            assert isinstance(products, Tensor)  # (groups, d, d)
            allowed = at.mask.of(layer.name, layer.shape)
            found, kept[layer.name] = self._layer(
                now[layer.name], products, allowed, layer, asked[layer.name]
            )
            now = now.replaced({layer.name: found})
        mask = Mask(kept)
        return Cut(mask=mask, params=mask.apply(now))

    def _layer(
        self, weights: Tensor, products: Tensor, allowed: Tensor, layer: Layer, keep: int
    ) -> tuple[Tensor, Tensor]:
        """Of one layer, group by group (of a convolution; else there is one)."""
        left = int(allowed.sum())
        if keep > left:
            raise RecipeError(
                f"the target keeps {keep} weights of {layer.name}, only {left} are left: "
                "a later round may not ask for more than the one before."
            )
        groups, (width, _) = len(products), products.shape[1:]
        found, stays, seen, taken = [], [], 0, 0
        for matrix, here, there in zip(
            products,
            weights.double().reshape(groups, -1, width),
            allowed.reshape(groups, -1, width),
            strict=True,
        ):
            seen += int(there.sum())
            share = round_half_up(keep * seen / max(left, 1)) - taken
            taken += share
            live = matrix.diagonal() != 0
            blocks = self._blocks(there, live, share, layer)
            factor, used = factored(matrix, self.damping), here.masked_fill(~live, 0.0)
            part, stay = sweep(used, factor, there, blocks)
            found.append(part)
            stays.append(stay)
        shape = weights.shape
        return (
            torch.stack(found).reshape(shape).to(weights.dtype),
            torch.stack(stays).reshape(shape),
        )

    def _blocks(self, allowed: Tensor, live: Tensor, keep: int, layer: Layer) -> tuple[Block, ...]:
        width = allowed.shape[1]
        if self.pattern is None:
            return shared_out(allowed, live, keep, self.columns or width)
        stay, of = self.pattern
        if bool((allowed.reshape(-1, of).sum(1) < stay).any()):
            raise RecipeError(
                f"LayerwiseLeastSquares(pattern={self.pattern}): somewhere in {layer.name} fewer "
                f"than {stay} of {of} weights are left; want a network cut by that pattern or not "
                "at all."
            )
        return tuple(
            Block(columns=slice(at, at + of), keep=stay, in_each_row=True)
            for at in range(0, width, of)
        )


def _width(layer: Layer) -> int:
    """Inputs of one unit."""
    return math.prod(layer.shape[1:])
