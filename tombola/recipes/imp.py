"""Iterative magnitude pruning; its rewound, its continued and its one-shot form."""

from tombola.pieces.rewind import ToStep
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Prune, Pruned, Train
from tombola.recipes.recipe import Recipe, Round, iterate, opening
from tombola.values.handle import Handle
from tombola.values.mask import FULL, Mask
from tombola.values.point import Point
from tombola.world.world import World


def continued(recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
    """Train, cut, train on, cut; every mask is judged from the initial values, beside the chain.

    A loop of its own, because a cut has two trainings: one goes on from the weights that are left
    and finds the next cut, the other is the ticket's. The last cut has the ticket's alone.
    """
    layers, (first, *later) = recipe.layers(world), recipe.targets(world)
    init, early = yield from opening(recipe, world, seed)
    whole = Train(world, seed, init, FULL, world.steps, world.objective)
    dense = end = yield whole
    rounds = (Round(target=first, job=whole, end=dense, spent=whole.steps),)
    objective, where = recipe.retraining(world), recipe.world_after(world)
    given = dict.fromkeys(sorted(objective.given), dense.params)

    def training(begin: Point, mask: Handle[Mask]) -> Train:
        until, parametrisation = world.steps, recipe.parametrisation
        return Train(where, seed, begin, mask, until, objective, given, parametrisation)

    mask: Handle[Mask] = FULL
    chain, cuts, tickets, spent = whole.steps, list[Pruned](), list[Train](), list[int]()
    for target in later:
        if cuts:
            on = training(Point(end.params, None, 0), mask)
            end = yield on
            chain += on.steps
        if end.diverged:
            break
        cut = yield Prune(world, seed, recipe.rule, layers, target, init.params, end.params, mask)
        mask = cut.mask
        ticket = training(recipe.rewind.point(early, end.point, cut.params), mask)
        cuts.append(cut)
        tickets.append(ticket)
        spent.append(chain + ticket.steps)
    ends = yield tuple(tickets)
    return rounds + tuple(
        Round(target=target, job=job, end=end, spent=steps, cut=cut)
        for target, job, end, steps, cut in zip(
            later[: len(cuts)], tickets, ends, spent, cuts, strict=True
        )
    )


def oneshot(recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
    """Train once, cut once from there to each target, rewind, retrain; targets stand side by side.

    A loop of its own, because `iterate` cuts each round from the end of the one before.
    """
    layers, (first, *later) = recipe.layers(world), recipe.targets(world)
    init, early = yield from opening(recipe, world, seed)
    whole = Train(world, seed, init, FULL, world.steps, world.objective)
    dense = yield whole
    rounds = (Round(target=first, job=whole, end=dense, spent=whole.steps),)
    if dense.diverged:
        return rounds
    cuts = yield tuple(
        Prune(world, seed, recipe.rule, layers, target, init.params, dense.params, FULL)
        for target in later
    )
    objective, where = recipe.retraining(world), recipe.world_after(world)
    given = dict.fromkeys(sorted(objective.given), dense.params)
    until, parametrisation = world.steps, recipe.parametrisation
    begins = [recipe.rewind.point(early, dense.point, cut.params) for cut in cuts]
    jobs = tuple(
        Train(where, seed, begin, cut.mask, until, objective, given, parametrisation)
        for begin, cut in zip(begins, cuts, strict=True)
    )
    ends = yield jobs
    return rounds + tuple(
        Round(target=target, job=job, end=end, spent=whole.steps + job.steps, cut=cut)
        for target, job, end, cut in zip(later, jobs, ends, cuts, strict=True)
    )


IMP = Recipe(
    name="imp",
    source="Frankle & Carbin 2019, The Lottery Ticket Hypothesis (arXiv 1803.03635), section 1, "
    "strategy 1: train, cut the smallest, reset the rest to their initial values, repeat",
    loop=iterate,
)

IMP_REWIND = Recipe(
    name="imp-rewind",
    source="Frankle, Dziugaite, Roy & Carbin 2020, Linear Mode Connectivity and the Lottery Ticket "
    "Hypothesis (arXiv 1912.05671): as imp, but back to step k instead of step 0",
    loop=iterate,
    rewind=ToStep(step=100),
)

IMP_CONTINUED = Recipe(
    name="imp-continued",
    source="Frankle & Carbin 2019 (arXiv 1803.03635), appendix B, strategy 2: between cuts train "
    "on from the weights left; back to the initial values only with the mask that is judged",
    loop=continued,
)

ONESHOT = Recipe(
    name="oneshot",
    source="Frankle & Carbin 2019 (arXiv 1803.03635), section 2: one cut of the trained network, "
    "then reset; here to each density of the schedule",
    loop=oneshot,
)
