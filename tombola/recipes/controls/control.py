"""The contract of controls, the loop that trains them, the check that they are what they claim."""

from dataclasses import dataclass, fields, replace
from typing import Protocol

from tombola.pieces.dynamics import Static
from tombola.pieces.parametrisation import Identity
from tombola.pieces.schedule import DENSE, Target
from tombola.recipes.controls.places import can_be_rearranged
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Pruned, Train
from tombola.recipes.recipe import Recipe, Round
from tombola.values.digest import digest
from tombola.values.handle import Handle
from tombola.values.mask import FULL
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a control stands beside: a round of the ticket, or the whole network.

    job: the training of which it changes something. spent: optimiser steps that finding and
    training the ticket took in all. cut: how the ticket's mask came to be.
    """

    recipe: Recipe
    target: Target
    job: Train
    spent: int
    cut: Pruned | None


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A training of a control, not yet run; target and cut are those of its round."""

    job: Train
    target: Target
    cut: Pruned | None = None


class Control(Protocol):
    """A frozen dataclass.

    claims: the fields of the training in its `Reference` that it changes, every one of them. sets:
    other fields that it sets in its own way, which may come out as they are there. beside: whether
    it is trained beside rounds of the ticket (else once for each seed, as round 0).
    """

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def claims(self) -> frozenset[str]: ...

    @property
    def sets(self) -> frozenset[str]: ...

    @property
    def beside(self) -> bool: ...

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        """What is to be trained: one training, or several draws of it.

        May ask for the jobs it needs, as a recipe's loop does. A study also runs it before
        anything is trained, with results that have no content.

        Raises:
            RecipeError: it cannot stand beside this; the message names the arm and says why.
        """
        ...

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        """What is wrong inside the fields that it claims or sets, or None."""
        ...


def control_loop(
    control: Control, recipe: Recipe, world: World, seed: int
) -> Loop[tuple[Round, ...]]:
    """Train a control: beside the last round of the recipe, or once for the seed.

    Trains nothing beside a ticket that diverged before that round.
    """
    init = (yield Init(world, seed)).params
    if control.beside:
        last, rounds = (
            recipe.targets(world)[-1].round,
            (yield from recipe.loop(recipe, world, seed)),
        )
        ticket = next((turn for turn in rounds if turn.target.round == last), None)
        if ticket is None:
            return ()
        reference = of_ticket(recipe, ticket, init, world)
    else:
        job = Train(world, seed, Point(init, None, 0), FULL, world.steps, world.objective)
        reference = Reference(recipe=recipe, target=DENSE, job=job, spent=job.steps, cut=None)
    drawn = yield from control.trainings(reference)
    ends = yield tuple(one.job for one in drawn)
    return tuple(
        Round(target=one.target, job=one.job, end=end, spent=one.job.steps, cut=one.cut, draw=draw)
        for draw, (one, end) in enumerate(zip(drawn, ends, strict=True))
    )


def of_ticket(recipe: Recipe, ticket: Round, init: Handle[Params], world: World) -> Reference:
    """What controls of a ticket stand beside; for most recipes the ticket's own training.

    Where the mask was found while training (it moved, or scores were trained), the found mask as it
    stands: a shuffled *start* would only compare one random start with another. Where weights do
    not return after the cut (`Stay`), from scratch for the whole length, at the rates of `world`:
    the cut weights carry the dense training in them, which fresh values cannot have.
    """
    job = ticket.job
    if ticket.end.mask.digest != job.mask.digest or job.parametrisation.finds_mask:
        job = replace(job, mask=ticket.end.mask, dynamics=Static(), parametrisation=Identity())
    if not recipe.rewind.returns:
        job = replace(job, world=world, begin=Point(init, None, 0))
    return Reference(
        recipe=recipe, target=ticket.target, job=job, spent=ticket.spent, cut=ticket.cut
    )


def unclaimed(control: Control, reference: Reference, trained: Train) -> str | None:
    """What is wrong with a control beside its reference; None if it is what it claims to be.

    Compares the two trainings field by field, by content.
    """
    changed = {
        field.name
        for field in fields(Train)
        if digest(getattr(reference.job, field.name)) != digest(getattr(trained, field.name))
    }
    beyond = changed - control.claims - control.sets
    if beyond:
        return f"{control.name} also changed {sorted(beyond)}"
    left = control.claims - changed
    if "mask" in left and not can_be_rearranged(reference.job.mask.load()):
        left -= {"mask"}
    if left:
        return f"{control.name} left {sorted(left)} as the ticket has it"
    return control.amiss(reference, trained)
