"""The ticket's initial values under the mask of its own score upside down."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tombola.errors import RecipeError
from tombola.pieces.basis import basis_of
from tombola.pieces.score import Reversed
from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.controls.places import cut_by_tensor
from tombola.recipes.controls.rearranged import other_units
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Prune, Train
from tombola.recipes.recipe import grow
from tombola.values.mask import FULL


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """The ticket's initial values with the weights its score holds for least important.

    If that trains as well, the score says nothing. As many weights (or units, of a ticket that cuts
    such) as the ticket has in all; where
    tensors compete each may have another share, and some none. Wants a recipe that cuts by a score
    and before training.

    Source: Frankle et al. 2021 (arXiv 2009.08576).
    """

    name: ClassVar[str] = "inverted"
    summary: ClassVar[str] = "the ticket's initial values, its score upside down"
    claims: ClassVar[frozenset[str]] = frozenset({"mask"})
    sets: ClassVar[frozenset[str]] = frozenset()
    beside: ClassVar[bool] = True

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        recipe, job, target = reference.recipe, reference.job, reference.target
        rule: Any = recipe.rule
        finds_mask = recipe.dynamics.moves or recipe.parametrisation.finds_mask
        if recipe.loop is not grow or finds_mask or not hasattr(rule, "score"):
            raise RecipeError(
                f"arm {self.name!r}: recipe {recipe.name!r} does not cut by a score before "
                "training, so there is none to turn round. Take it beside one that does, such as "
                "snip or synflow, or leave the arm out."
            )
        upside_down = replace(rule, score=Reversed(of=rule.score))
        init = (yield Init(job.world, job.seed)).params
        cut = yield Prune(
            job.world, job.seed, upside_down, recipe.layers(job.world), target, init, init, FULL
        )
        return (Drawn(job=replace(job, mask=cut.mask), target=target, cut=cut),)

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        if basis_of(reference.recipe.rule) is not None:
            return other_units(self.name, reference, trained)
        own, there = (
            sum(cut_by_tensor(job.mask.load()).values()) for job in (trained, reference.job)
        )
        return None if own == there else f"{self.name} cuts {own} weights, the ticket {there}"
