"""(b) A whole study: against the dense executor, and against what users write."""

import tempfile
from collections.abc import Callable
from dataclasses import replace

import torch

from tombola.lab.bench.measure import Measured, rounded
from tombola.lab.bench.reference import reference
from tombola.lab.pace import seconds
from tombola.lab.study import find
from tombola.pieces.schedule import LayerRates
from tombola.recipes.imp import IMP
from tombola.world.numerics import Numerics
from tombola.world.world import World

ROUNDS, SEEDS, STEPS = 20, 2, 400
ARMS = ("ticket", "reinit")


def study(world: World, steps: int = STEPS, jobs: int = 1) -> Measured:
    """The ticket and reinit at all of 21 rounds, 2 seeds, each training of `steps` steps.

    Three times: as it is, with every training on the dense executor, and written as users write it
    (see `reference`), the last with as many torch threads as processes are used by the others.
    """
    recipe = replace(IMP, schedule=LayerRates(rounds=ROUNDS))
    short = replace(world, steps=steps, evaluate_every=min(world.evaluate_every or steps, steps))

    def tombola(executor: str) -> Callable[[], object]:
        asked = replace(short, numerics=Numerics(executor=executor))

        def work() -> None:
            with tempfile.TemporaryDirectory() as folder:
                arms = ("dense", *ARMS)
                find(
                    recipe,
                    asked,
                    seeds=SEEDS,
                    arms=arms,
                    controls_at="all",
                    jobs=jobs,
                    store=folder,
                )

        return work

    def plain() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(jobs)
        try:
            for seed in range(SEEDS):
                reference(short, recipe.targets(short), seed, ARMS)
        finally:
            torch.set_num_threads(threads)

    taken = {
        "auto": seconds(tombola("auto")),
        "dense": seconds(tombola("dense")),
        "as users write it": seconds(plain),
    }
    trainings = SEEDS * (1 + 2 * ROUNDS)
    rows = [
        {
            "executor": name,
            "seconds": rounded(one),
            "ms a step": rounded(one / (trainings * steps) * 1e3),
            "ratio": rounded(one / taken["auto"]),
        }
        for name, one in taken.items()
    ]
    return Measured(
        bench="study",
        world=world.name,
        about=f"{ROUNDS + 1} rounds, {SEEDS} seeds, ticket and reinit at all of them: {trainings} "
        f"trainings of {steps} steps, {jobs} at once; ratio: over `auto`",
        rows=tuple(rows),
    )
