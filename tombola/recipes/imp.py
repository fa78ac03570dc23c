"""Iterative magnitude pruning, its rewound form, and its one-shot form."""

from tombola.pieces.rewind import ToStep
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Prune, Train
from tombola.recipes.recipe import Recipe, Round, iterate, opening
from tombola.values.mask import FULL
from tombola.world.world import World


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
    objective = recipe.retraining(world)
    given = dict.fromkeys(sorted(objective.given), dense.params)
    begins = [recipe.rewind.point(early, dense.point, cut.params) for cut in cuts]
    jobs = tuple(
        Train(world, seed, begin, cut.mask, world.steps, objective, given)
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

ONESHOT = Recipe(
    name="oneshot",
    source="Frankle & Carbin 2019 (arXiv 1803.03635), section 2: one cut of the trained network, "
    "then reset; here to each density of the schedule",
    loop=oneshot,
)
