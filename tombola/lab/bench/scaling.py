"""(c) How cost grows with seeds, rounds and width."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from tombola.lab.bench.measure import Measured, job, rounded, step_seconds, steps_for
from tombola.lab.pace import seconds
from tombola.lab.study import find
from tombola.pieces.schedule import LayerRates
from tombola.recipes.imp import IMP
from tombola.world.world import World

WIDTHS = (0.25, 0.5, 1.0)


def scaling(world: World, steps: int = 200, jobs: int = 1) -> Measured:
    """Seconds of a study with 1, 2 and 4 seeds, and with 2, 5, 10 and 20 rounds; of a step at
    density 1 and .1 with a quarter, a half and all of the network's width. `ratio` is over the
    first of each kind, `even` what it would be if every seed or round, or every weight, cost the
    same."""
    short = replace(world, steps=steps, evaluate_every=steps)
    rows = [
        *_of_kind("seeds", {n: (n, 5) for n in (1, 2, 4)}, partial(_study, short, jobs)),
        *_of_kind("rounds", {n: (1, n) for n in (2, 5, 10, 20)}, partial(_study, short, jobs)),
    ]
    if world.thin is not None:
        rows += _widths(world, world.thin)
    return Measured(
        bench="scaling",
        world=world.name,
        about=f"studies with trainings of {steps} steps, {jobs} at once; steps of thinner networks",
        rows=tuple(rows),
    )


def _study(world: World, jobs: int, seeds: int, rounds: int) -> float:
    recipe = replace(IMP, schedule=LayerRates(rounds=rounds))
    judged = replace(world, judged_density=recipe.targets(world)[-1].density)
    with tempfile.TemporaryDirectory() as folder:
        return seconds(
            lambda: find(
                recipe,
                judged,
                seeds=seeds,
                arms=("dense", "ticket"),
                jobs=jobs,
                store=folder,
            )
        )


def _of_kind(
    what: str, sizes: dict[int, tuple[int, int]], measured: Callable[[int, int], float]
) -> list[dict[str, object]]:
    taken = {number: measured(*size) for number, size in sizes.items()}
    first = min(taken)
    begin = first + 1 if what == "rounds" else first  # round 0 is trained too
    return [
        {
            "what": f"{number} {what}",
            "seconds": rounded(one),
            "ratio": rounded(one / taken[first]),
            "even": rounded((number + 1 if what == "rounds" else number) / begin),
        }
        for number, one in taken.items()
    ]


def _widths(world: World, thin: Callable[[float], nn.Module]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for density in (1.0, 0.1):
        worlds = {width: replace(world, model=partial(thin, width)) for width in WIDTHS}
        steps = {width: steps_for(own, 0.2) for width, own in worlds.items()}
        jobs = {str(w): job(own, density, "auto", steps[w]) for w, own in worlds.items()}
        taken = step_seconds(jobs, turns=3)
        weights = {w: sum(layer.count for layer in own.layers) for w, own in worlds.items()}
        rows += [
            {
                "what": f"width x{width:g}, density {density:g}",
                "seconds": rounded(taken[str(width)]),
                "ratio": rounded(taken[str(width)] / taken[str(WIDTHS[0])]),
                "even": rounded(weights[width] / weights[WIDTHS[0]]),
            }
            for width in WIDTHS
        ]
    return rows
