"""LeNet-300-100 on MNIST and the criteria beside each other, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path

from tombola.pieces.rewind import ToStep
from tombola.pieces.schedule import Densities
from tombola.recipes.recipe import Recipe
from tombola.recipes.second_order import OBD, WOODFISHER
from tombola.recipes.snip import SNIP
from tombola.world.catalogue import mnist_lenet
from tombola.world.world import World

CRITERIA = replace(SNIP, schedule=Densities(values=(0.2, 0.1, 0.05, 0.02)))


def reset(recipe: Recipe) -> Recipe:
    """The mask of a cut after training, trained from the initial values: `oneshot` is the largest
    weights' so."""
    return replace(recipe, name=f"{recipe.name}-reset", rewind=ToStep())


OBD_RESET, WOODFISHER_RESET = reset(OBD), reset(WOODFISHER)


def mnist_brief(data: Path | None = None) -> World:
    """`mnist-lenet` with 800 steps, judged at 5 %."""
    return replace(
        mnist_lenet(data),
        name="mnist-lenet-800",
        steps=800,
        evaluate_every=100,
        judged_density=0.05,
        margin=0.01,
    )
