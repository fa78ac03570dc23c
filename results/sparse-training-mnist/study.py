"""Sparse training of LeNet-300-100 on MNIST, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tombola.pieces.schedule import Densities
from tombola.recipes import GRADUAL, RIGL, SET, STATIC, STATIC_FAN_IN, Recipe
from tombola.world.catalogue import mnist_lenet
from tombola.world.optimiser import SGD, Cosine
from tombola.world.world import World

DENSITIES = (0.2, 0.1, 0.05, 0.02)
EPOCHS = 3


def lenet(data: Path | None = None) -> World:
    """Three epochs of MNIST in batches of 100 by SGD with momentum, .1 to 0 along a cosine."""
    return replace(
        mnist_lenet(data),
        name="mnist-lenet-sgd",
        steps=550 * EPOCHS,
        batch_size=100,
        optimiser=SGD(lr=0.1, momentum=0.9, rate=Cosine()),
        evaluate_every=550,
        judged_density=0.05,
    )


def short(recipe: Recipe) -> Recipe:
    """At all four densities, with an update every 50 steps where there are any."""
    moving: Any = recipe.dynamics
    if hasattr(moving, "every"):
        moving = replace(moving, every=50)
    return replace(
        recipe,
        name=f"short-{recipe.name}",
        schedule=Densities(values=DENSITIES),
        dynamics=moving,
    )


SHORT_RIGL, SHORT_SET, SHORT_STATIC, SHORT_FAN_IN, SHORT_GRADUAL = map(
    short, (RIGL, SET, STATIC, STATIC_FAN_IN, GRADUAL)
)
