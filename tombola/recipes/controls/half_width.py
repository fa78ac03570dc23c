"""A dense network of half the width, whatever the ticket keeps."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from tombola.errors import RecipeError
from tombola.pieces.schedule import DENSE
from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.controls.dense import whole_from_the_start
from tombola.recipes.controls.thin import weights_at
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Train
from tombola.recipes.worlds import differences, once
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.world import World

FACTOR = 0.5


@dataclass(frozen=True, kw_only=True)
class HalfWidth:
    """A dense network with all widths of the whole one halved, trained once: round 0.

    Unlike `Thin` it is the same beside every ticket: what a plain smaller network reaches. Data,
    their order, steps, batch size and rates are the whole network's. Wants a world with `thin`.
    """

    name: ClassVar[str] = "half-width"
    summary: ClassVar[str] = "a dense network, all its layers half as wide"
    claims: ClassVar[frozenset[str]] = frozenset({"world"})
    sets: ClassVar[frozenset[str]] = frozenset(
        {"mask", "begin", "objective", "given", "parametrisation", "dynamics"}
    )
    beside: ClassVar[bool] = False

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        recipe, job = reference.recipe, reference.job
        world = halved(job.world)
        start = yield Init(world, job.seed)
        begin = Point(start.params, None, 0)
        share = weights_at(job.world, recipe.scope, FACTOR) / weights_at(
            job.world, recipe.scope, 1.0
        )
        training = Train(world, job.seed, begin, FULL, world.steps, world.objective)
        target = replace(DENSE, round=reference.target.round, density=share)
        return (Drawn(job=training, target=target),)

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        other = differences(reference.job.world, trained.world) - {"model"}
        if other:
            return f"{self.name} trains in a world with other {sorted(other)}"
        return whole_from_the_start(self.name, trained)


def halved(world: World) -> World:
    """The world with the network at half its widths.

    Raises:
        RecipeError: the world cannot make thinner networks.
    """
    if world.thin is None:
        raise RecipeError(
            f"arm 'half-width': world {world.name!r} does not say how its network is made thinner. "
            "Give World(thin=...) a function that takes a factor in (0, 1] and returns the network "
            "with all widths multiplied by it, or leave the arm out."
        )
    thin = world.thin
    return once(world, ["halved"], lambda: replace(world, model=partial(thin, FACTOR)))
