"""Tickets found in one world and trained in another; tickets of a pre-trained network.

    moved = transferred(IMP_REWIND, digits_0_to_4, fresh=("layers.2.*",))
    study = tb.find(moved, digits_5_to_9, arms=("dense", "reinit", "shuffle", IMP_REWIND))

The worlds may differ in data, optimiser, task or all of these; the networks in the tensors named
`fresh` alone, which are never cut. `shuffle` is the control of Morcos et al.: the moved weights,
the mask shuffled inside each tensor; the recipe itself as an arm finds tickets in the world they
are trained in.

Source: Morcos, Yu, Paganini & Tian 2019, One ticket to win them all (arXiv 1906.02773); Chen,
Frankle et al. 2020, The Lottery Ticket Hypothesis for Pre-trained BERT Networks (arXiv 2007.12223).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from tombola.errors import RecipeError
from tombola.pieces.parametrisation import Identity
from tombola.pieces.schedule import Linear
from tombola.pieces.scope import Scope
from tombola.recipes.imp import IMP
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Init, Started, Train
from tombola.recipes.recipe import Recipe, Round
from tombola.recipes.worlds import once
from tombola.values.handle import Handle
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.layers import is_one_of
from tombola.world.pretrained import misfits
from tombola.world.world import World, initial_params


def transferred(recipe: Recipe, source: World, fresh: tuple[str, ...] = ()) -> Recipe:
    """A recipe's tickets, found in `source`, trained in the world the new recipe is applied to.

    fresh: names or patterns of tensors that are drawn anew there and never cut: the output layer
    of another task.

    Targets, and which tensors may be cut, are those of the world where tickets are trained. Each
    round takes its mask, and the weights it started from in `source` (those of step k for
    `imp-rewind`), and trains for the whole length there: the clock at 0, the optimiser fresh.

    Raises:
        RecipeError: when it is applied to a world whose network does not fit; names what differs.
    """
    cut = tuple(p for p in fresh if any(is_one_of(layer.name, (p,)) for layer in source.layers))
    return replace(
        recipe,
        name=f"{recipe.name}-from-{source.name}",
        source=f"tickets of {source.name}, trained elsewhere (Morcos et al. 2019, arXiv "
        f"1906.02773); found as: {recipe.source}",
        scope=Scope(exclude=tuple(dict.fromkeys((*recipe.scope.exclude, *cut)))),
        loop=partial(moved, source, fresh, recipe.loop),
    )


def moved(
    source: World, fresh: tuple[str, ...], find: Any, recipe: Recipe, world: World, seed: int
) -> Loop[tuple[Round, ...]]:
    """Find every round in `source`, then train all of them here, side by side.

    A loop of its own, because finding and training have different worlds. Steps spent are those of
    finding, without the training that each ticket has in `source`, and of training here.
    """
    there = _as_judged_here(recipe, source, world)
    _check_fit(recipe, there, world, fresh)
    found: tuple[Round, ...] = yield from find(recipe, there, seed)
    init = (yield Init(world, seed)).params
    grafts = yield tuple(Graft(turn.job.begin.params, init, fresh) for turn in found)
    jobs = tuple(
        Train(
            world,
            seed,
            Point(graft.params, None, 0),
            turn.end.mask,
            world.steps,
            world.objective,
            parametrisation=Identity()
            if turn.job.parametrisation.finds_mask
            else turn.job.parametrisation,
        )
        for turn, graft in zip(found, grafts, strict=True)
    )
    ends = yield jobs
    return tuple(
        replace(turn, job=job, end=end, spent=turn.spent - turn.job.steps + job.steps)
        for turn, job, end in zip(found, jobs, ends, strict=True)
    )


def _as_judged_here(recipe: Recipe, source: World, world: World) -> World:
    """The source with the targets of the world where its tickets are trained."""
    density, rates, unpruned = world.judged_density, world.rates, world.unpruned
    return once(
        source,
        ["judged as", density, rates, unpruned],
        lambda: replace(source, judged_density=density, rates=rates, unpruned=unpruned),
    )


def _check_fit(recipe: Recipe, there: World, world: World, fresh: tuple[str, ...]) -> None:
    moved, own = (initial_params(one, 0) for one in (there, world))
    wrong = misfits(moved, own, fresh)
    if wrong is None and recipe.layers(there) != recipe.layers(world):
        wrong = "not the same tensors may be cut"
    if wrong:
        raise RecipeError(
            f"recipe {recipe.name!r}: a ticket of world {there.name!r} does not fit world "
            f"{world.name!r}: {wrong}. Name what is to be drawn anew, for example "
            'fresh=("head.*",), or take a network of the same shapes.'
        )
    if recipe.retrain is not None:
        raise RecipeError(
            f"recipe {recipe.name!r}: its tickets are retrained with an objective of their own, "
            "which would be left behind in the world they come from. Transfer the recipe with "
            "retrain=None."
        )


@dataclass(frozen=True)
class Graft:
    """Weights from elsewhere, with the named tensors as they are here.

    Example:
        >>> import torch
        >>> from tombola.recipes.job import NoDesk
        >>> there, here = (Params({n: torch.full((1,), v) for n in "ab"}) for v in (1., 2.))
        >>> [float(t) for t in Graft(there, here, ("b",)).run(NoDesk()).params.load().values()]
        [1.0, 2.0]
    """

    kind: ClassVar[str] = "graft"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    moved: Handle[Params]
    onto: Handle[Params]
    fresh: tuple[str, ...]

    def run(self, desk: Desk) -> Started:
        moved, onto = self.moved.load(), self.onto.load()
        own = {n: t if is_one_of(n, self.fresh) else moved[n] for n, t in onto.items()}
        return Started(params=Params(own))

    def placeholder(self, pending: Any) -> Started:
        return Started(params=pending("params"))


BERT_TICKET = replace(
    IMP,
    name="bert-ticket",
    source="Chen, Frankle et al. 2020 (arXiv 2007.12223): a tenth of the original weights goes in "
    "each round, smallest first, the rest back to the (pre-trained) values of the start",
    schedule=Linear(),
)
