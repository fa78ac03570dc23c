"""The ticket's initial values under a shuffled mask."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.controls.places import can_be_rearranged, cut_by_tensor, drawn_anew
from tombola.recipes.controls.rearranged import rearranged
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Pruned, Train
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.rng import stream


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """The ticket's initial values with its mask shuffled inside each tensor: same counts, other
    places. Of a ticket that cuts whole units, its units are shuffled inside each set.

    Source: Frankle et al. 2021 (arXiv 2009.08576); sparse-ticket literature calls it the
    layer-shuffled mask.
    """

    name: ClassVar[str] = "shuffle"
    summary: ClassVar[str] = "the ticket's initial values, its mask shuffled inside each tensor"
    claims: ClassVar[frozenset[str]] = frozenset({"mask"})
    sets: ClassVar[frozenset[str]] = frozenset()
    beside: ClassVar[bool] = True

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        job, target = reference.job, reference.target
        layers = reference.recipe.layers(job.world)
        shuffled = yield rearranged(reference, within=True) or ShuffleMask(
            mask=job.mask, layers=layers, seed=job.seed, round=target.round
        )
        return (Drawn(job=replace(job, mask=shuffled.mask), target=target, cut=shuffled),)

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        own, there = (cut_by_tensor(job.mask.load()) for job in (trained, reference.job))
        return None if own == there else f"{self.name} cuts {own} weights, the ticket {there}"


@dataclass(frozen=True, kw_only=True)
class ShuffleMask:
    """The same number of weights of each tensor, at places drawn uniformly.

    Example:
        >>> from tombola.recipes.job import NoDesk
        >>> fc = Layer(name="fc", shape=(4, 5), kind="linear", rate=.8)
        >>> mask = Mask({"fc": torch.arange(20).reshape(4, 5) < 7})
        >>> done = ShuffleMask(mask=mask, layers=(fc,), seed=0, round=1).run(NoDesk())
        >>> done.kept, done.mask.digest == mask.digest
        ({'fc': 7}, False)
    """

    kind: ClassVar[str] = "shuffle"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    mask: Handle[Mask]
    layers: tuple[Layer, ...]
    seed: int
    round: int

    def run(self, desk: Desk) -> Pruned:
        mask = self.mask.load()

        def draw(*again: int) -> Mask:
            return self._drawn(mask, again)

        what = f"shuffle: the mask of round {self.round}"
        result = drawn_anew(mask, draw, can_be_rearranged(mask), what)
        kept = {layer.name: result.kept(layer.name, layer.count) for layer in self.layers}
        exact = all(kept[layer.name] == mask.kept(layer.name, layer.count) for layer in self.layers)
        return Pruned(
            mask=result, params=None, kept=kept, checks={"mask_nested": None, "count_exact": exact}
        )

    def _drawn(self, mask: Mask, again: tuple[int, ...]) -> Mask:
        moved = {}
        for layer in self.layers:
            places = stream(self.seed, "shuffle", self.round, layer.name, *again)
            order = torch.randperm(layer.count, generator=places)
            kept = mask.of(layer.name, layer.shape).reshape(-1)
            moved[layer.name] = kept[order].reshape(layer.shape)
        return Mask(moved)

    def placeholder(self, pending: Any) -> Pruned:
        return Pruned(mask=pending("mask"), params=None, kept={}, checks={})
