"""The ticket's initial values under a random mask that knows nothing of the ticket but its size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Global
from tombola.pieces.basis import basis_of
from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.controls.places import cut_by_tensor, drawn_anew
from tombola.recipes.controls.rearranged import other_units, rearranged
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Pruned, Train
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.rng import stream


@dataclass(frozen=True, kw_only=True)
class RandomMask:
    """The ticket's initial values with a mask of as many weights at random places.

    allocation: how the ticket's number of weights is shared out among tensors; the ticket's own
    sharing has no part in it (see `Shuffle` for that). `Global` draws the places from all weights
    in scope at once. Of a ticket that cuts whole units, as many units are drawn from all sets at
    once, one at least from each; how many weights that leaves depends on the draw. name, summary:
    for people; not part of the identity.

    Source: for `Global`, Frankle & Carbin 2019 (arXiv 1803.03635), figure 1, "random sparsity" (on
    initial values of its own there, on the ticket's here, so that masks alone differ); for `ERK`,
    the static sparse training of Evci et al. 2020 (arXiv 1911.11134), section 4.
    """

    claims: ClassVar[frozenset[str]] = frozenset({"mask"})
    sets: ClassVar[frozenset[str]] = frozenset()
    beside: ClassVar[bool] = True

    name: str = field(metadata={"identity": False})
    summary: str = field(metadata={"identity": False})
    allocation: Allocation

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        job, target = reference.job, reference.target
        layers = reference.recipe.layers(job.world)
        units = rearranged(reference, within=False)
        if units is not None and not isinstance(self.allocation, Global):
            raise RecipeError(
                f"arm {self.name!r} shares weights out among tensors by their shapes; recipe "
                f"{reference.recipe.name!r} cuts whole units. Take random or shuffle beside it."
            )
        random = yield units or DrawMask(
            mask=job.mask,
            layers=layers,
            allocation=self.allocation,
            seed=job.seed,
            round=target.round,
        )
        return (Drawn(job=replace(job, mask=random.mask), target=target, cut=random),)

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        if basis_of(reference.recipe.rule) is not None:
            return other_units(self.name, reference, trained)
        own, there = (
            sum(cut_by_tensor(job.mask.load()).values()) for job in (trained, reference.job)
        )
        return None if own == there else f"{self.name} cuts {own} weights, the ticket {there}"


@dataclass(frozen=True, kw_only=True)
class DrawMask:
    """As many weights as a mask keeps, shared out by an allocation, at places drawn uniformly.

    Example:
        >>> from tombola.pieces.allocation import Global
        >>> from tombola.recipes.job import NoDesk
        >>> pair = [Layer(name=name, shape=(4, 5), kind="linear", rate=.8) for name in "ab"]
        >>> mask = Mask({"a": torch.arange(20).reshape(4, 5) < 7})
        >>> job = DrawMask(mask=mask, layers=tuple(pair), allocation=Global(), seed=0, round=1)
        >>> job.run(NoDesk()).kept
        {'a': 14, 'b': 13}
    """

    kind: ClassVar[str] = "draw-mask"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    mask: Handle[Mask]
    layers: tuple[Layer, ...]
    allocation: Allocation
    seed: int
    round: int

    def run(self, desk: Desk) -> Pruned:
        mask = self.mask.load()
        total = sum(layer.count for layer in self.layers)
        size = sum(mask.kept(layer.name, layer.count) for layer in self.layers)
        asked = self.allocation.counts(self.layers, size / total)
        if isinstance(asked, int):
            there_is_another = 0 < asked < total
        else:
            there_is_another = any(0 < asked[la.name] < la.count for la in self.layers)

        def draw(*again: int) -> Mask:
            return self._drawn(asked, again)

        what = f"random mask: the mask of round {self.round}"
        result = drawn_anew(mask, draw, there_is_another, what)
        kept = {layer.name: result.kept(layer.name, layer.count) for layer in self.layers}
        exact = asked in (kept, sum(kept.values())) and sum(kept.values()) == size
        return Pruned(
            mask=result, params=None, kept=kept, checks={"mask_nested": None, "count_exact": exact}
        )

    def _drawn(self, asked: Mapping[str, int] | int, again: tuple[int, ...]) -> Mask:
        names = ("random-mask", self.round, *again)
        if isinstance(asked, int):
            counts = [layer.count for layer in self.layers]
            parts = _places(sum(counts), asked, stream(self.seed, *names)).split(counts)
        else:
            parts = tuple(
                _places(la.count, asked[la.name], stream(self.seed, *names, la.name))
                for la in self.layers
            )
        return Mask(
            {la.name: part.reshape(la.shape) for la, part in zip(self.layers, parts, strict=True)}
        )

    def placeholder(self, pending: Any) -> Pruned:
        return Pruned(mask=pending("mask"), params=None, kept={}, checks={})


def _places(count: int, kept: int, generator: torch.Generator) -> torch.Tensor:
    """True at `kept` of `count` places, bool (count,)."""
    found = torch.zeros(count, dtype=torch.bool)
    found[torch.randperm(count, generator=generator)[:kept]] = True
    return found
