"""A dense network of as many weights as the ticket."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import nn

from tombola.errors import RecipeError
from tombola.pieces.schedule import Target
from tombola.pieces.scope import Scope
from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.controls.dense import whole_from_the_start
from tombola.recipes.controls.places import cut_by_tensor
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Train
from tombola.recipes.recipe import Recipe
from tombola.recipes.worlds import differences, once
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.values.rng import borrowed_generators
from tombola.world.layers import is_one_of, prunable_layers
from tombola.world.world import World

HALVINGS = 26  # widths up to some 5,000: those of two layers, v and w, change 1 / 2vw apart or more


@dataclass(frozen=True, kw_only=True)
class Thin:
    """A dense network of as many weights: all widths of the whole one times a factor.

    The factor, by bisection, is one at which the weights in scope come closest to those the ticket
    keeps, and not above. Data, their order, steps, batch size and rates are the ticket's; it is
    trained from its own initial values, at step 0. Wants a world with `thin`.

    Source: Ma, Yuan et al. 2021 (arXiv 2107.00166), small dense training.
    """

    name: ClassVar[str] = "thin"
    summary: ClassVar[str] = "a dense network of as many weights, all its layers thinner"
    claims: ClassVar[frozenset[str]] = frozenset({"world"})
    sets: ClassVar[frozenset[str]] = frozenset({"begin", "mask", "parametrisation", "dynamics"})
    beside: ClassVar[bool] = True

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        recipe, job, target = reference.recipe, reference.job, reference.target
        if job.given:
            raise RecipeError(
                f"arm {self.name!r}: the tickets of recipe {recipe.name!r} learn from other "
                f"networks ({', '.join(sorted(job.given))}), which a world with a thinner one "
                "cannot hold. Leave the arm out."
            )
        size = recipe.size(job.world, target)
        if size is None:
            raise RecipeError(
                f"arm {self.name!r}: recipe {recipe.name!r} ranks units of all sets together, so "
                "how many weights that leaves is known after the cut alone. Leave the arm out, or "
                "take half-width."
            )
        world = thinned(job.world, recipe.scope, size)
        start = yield Init(world, job.seed)
        begin = Point(start.params, None, 0)
        density = _weights(recipe, world) / _weights(recipe, job.world)
        return (
            Drawn(
                job=Train(world, job.seed, begin, FULL, world.steps, job.objective),
                target=Target(round=target.round, density=density),
            ),
        )

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        recipe, job = reference.recipe, reference.job
        other = differences(job.world, trained.world) - {"model"}
        if other:
            return f"{self.name} trains in a world with other {sorted(other)}"
        size = _weights(recipe, job.world) - sum(cut_by_tensor(job.mask.load()).values())
        own = _weights(recipe, trained.world)
        if own > size:
            return f"{self.name} has {own} weights, the ticket {size}"
        return whole_from_the_start(self.name, trained)


def _weights(recipe: Recipe, world: World) -> int:
    return sum(layer.count for layer in recipe.layers(world))


def thinned(world: World, scope: Scope, size: int) -> World:
    """The world with the widest network that has at most `size` weights in scope.

    Raises:
        RecipeError: the world cannot make thinner networks, or none so thin.
    """
    return once(world, ["thinned", scope, size], lambda: _thinned(world, scope, size))


def _thinned(world: World, scope: Scope, size: int) -> World:
    if world.thin is None:
        raise RecipeError(
            f"arm 'thin': world {world.name!r} does not say how its network is made thinner. Give "
            "World(thin=...) a function that takes a factor in (0, 1] and returns the network with "
            "all widths multiplied by it, for example thin=lambda factor: MyNet(width=max(1, "
            "round(factor * 300)))."
        )
    whole, there = weights_at(world, scope, 1.0), sum(la.count for la in scope.select(world.layers))
    if whole != there:
        raise RecipeError(
            f"arm 'thin': World(thin)(1) of world {world.name!r} has {whole} weights in scope, its "
            f"network {there}; want the same network at factor 1."
        )
    if whole <= size:
        return replace(world, model=partial(world.thin, 1.0))
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if weights_at(world, scope, middle) <= size:
            low = middle
        else:
            high = middle
    if low == 0.0:
        raise RecipeError(
            f"arm 'thin': the ticket keeps {size} weights, the thinnest network of world "
            f"{world.name!r} has {weights_at(world, scope, high)}. Leave the arm out, or judge at "
            "a higher density."
        )
    return replace(world, model=partial(world.thin, low))


def weights_at(world: World, scope: Scope, factor: float) -> int:
    """How many weights in scope the thinner network of a factor has."""
    assert world.thin is not None
    with world.numerics.in_force(), borrowed_generators():
        network = world.thin(factor)
    if not isinstance(network, nn.Module):
        raise RecipeError(
            f"arm 'thin': World(thin)({factor:g}) returned a {type(network).__name__}; want a "
            "torch.nn.Module."
        )
    found = (
        layer
        for layer in prunable_layers(network, world.rate_of, world.pruned)
        if not is_one_of(layer.name, world.unpruned)
    )
    return sum(layer.count for layer in scope.select(tuple(found)))
