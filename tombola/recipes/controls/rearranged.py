"""Masks of whole units at other places: as many in each set, or as many in all."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from tombola.pieces.basis import basis_of, counted
from tombola.pieces.by_units import keep_units
from tombola.pieces.rule import Rule
from tombola.recipes.controls.places import can_be_rearranged, drawn_anew
from tombola.recipes.job import Desk
from tombola.recipes.jobs import Pruned, Train
from tombola.recipes.recipe import Recipe
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.rng import stream
from tombola.values.units import Coupling, Sets, alive, expanded
from tombola.world.world import World

if TYPE_CHECKING:
    from tombola.recipes.controls.control import Reference


@dataclass(frozen=True, kw_only=True)
class RearrangeUnits:
    """Other units of a rule's basis, drawn uniformly.

    units: which the ticket keeps. layers: in scope. within: as many of each set; else as many in
    all, of which every set gets one.
    """

    kind: ClassVar[str] = "rearrange-units"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    rule: Rule
    layers: tuple[Layer, ...]
    units: Handle[Mask]
    within: bool
    seed: int
    round: int

    def run(self, desk: Desk) -> Pruned:
        units = self.units.load()
        sets = counted(self.rule, self.layers, self._coupling)
        there = {one.name: units.kept(one.name, one.count) for one in sets}
        asked = there if self.within else sum(there.values())
        most = sum(one.count for one in sets)
        another = (
            can_be_rearranged(units) if self.within else len(sets) < sum(there.values()) < most
        )

        def draw(*again: int) -> Mask:
            scores = {one.name: self._drawn(one, again) for one in sets}
            return keep_units(scores, sets, asked, FULL, least=1)

        what = f"rearranged units: the mask of round {self.round}"
        found = drawn_anew(units, draw, another, what)
        shapes = {layer.name: layer.shape for layer in self.layers}
        mask = expanded(found, self._sets(), shapes)
        kept = {layer.name: mask.kept(layer.name, layer.count) for layer in self.layers}
        now = {one.name: found.kept(one.name, one.count) for one in sets}
        exact = asked in (now, sum(now.values()))
        checks = {"mask_nested": None, "count_exact": exact}
        return Pruned(mask=mask, params=None, kept=kept, checks=checks, units=found)

    @property
    def _coupling(self) -> Callable[[], Coupling]:
        return partial(getattr, self.world, "coupling")

    def _sets(self) -> Sets:
        basis = basis_of(self.rule)
        assert basis is not None
        return basis.sets(self.layers, self._coupling)

    def _drawn(self, one: Layer, again: tuple[int, ...]) -> Tensor:
        names = ("rearrange-units", self.within, self.round, one.name, *again)
        return torch.rand(one.shape, generator=stream(self.seed, *names), dtype=torch.float64)

    def placeholder(self, pending: Any) -> Pruned:
        return Pruned(mask=pending("mask"), params=None, kept={}, checks={}, units=pending("units"))


def rearranged(reference: "Reference", within: bool) -> RearrangeUnits | None:
    """The job of a control of a ticket that cuts whole units; None for one that cuts weights."""
    job, cut = reference.job, reference.cut
    if cut is None or cut.units is None:
        return None
    return RearrangeUnits(
        world=job.world,
        rule=reference.recipe.rule,
        units=cut.units,
        layers=reference.recipe.layers(job.world),
        within=within,
        seed=job.seed,
        round=reference.target.round,
    )


def other_units(name: str, reference: "Reference", trained: Train) -> str | None:
    """What is wrong with a control that is to keep as many units as its ticket; None if it does."""
    recipe = reference.recipe
    own, there = (
        units_kept(recipe, job.world, job.mask.load()) for job in (trained, reference.job)
    )
    return None if own == there else f"{name} keeps {own} units, the ticket {there}"


def units_kept(recipe: Recipe, world: World, mask: Mask) -> int:
    """How many units of the recipe's basis a mask over weights leaves."""
    layers, basis = recipe.layers(world), basis_of(recipe.rule)
    assert basis is not None
    sets = basis.sets(layers, partial(getattr, world, "coupling"))
    left = alive(mask, sets, {layer.name: layer.shape for layer in layers})
    return sum(left.kept(one.name, one.count) for one in sets)
