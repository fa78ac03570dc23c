"""Gradient flow and relearning of LeNet-300-100 at 2 % on MNIST, as objects `tombola` can name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tombola.pieces.schedule import Densities
from tombola.recipes import (
    RIGL,
    RIGL_FAN_IN,
    SET,
    STATIC,
    STATIC_FAN_IN,
    STATIC_SCALED,
    Recipe,
)
from tombola.world.catalogue import mnist_lenet
from tombola.world.optimiser import SGD, Cosine
from tombola.world.world import World

DENSITY = 0.02
EPOCHS = 3


def lenet(data: Path | None = None) -> World:
    """Three epochs of MNIST in batches of 100 by SGD with momentum, .1 to 0 along a cosine."""
    return replace(
        mnist_lenet(data),
        name="mnist-lenet-sgd",
        steps=550 * EPOCHS,
        batch_size=100,
        optimiser=SGD(lr=0.1, momentum=0.9, weight_decay=1e-4, rate=Cosine()),
        evaluate_every=550,
        judged_density=DENSITY,
    )


def at_two_percent(recipe: Recipe) -> Recipe:
    """With an update every 50 steps where there are any."""
    moving: Any = recipe.dynamics
    if hasattr(moving, "every"):
        moving = replace(moving, every=50)
    return replace(
        recipe,
        name=f"sparse-{recipe.name}",
        schedule=Densities(values=(DENSITY,)),
        dynamics=moving,
    )


SHORT_STATIC, SHORT_SCALED, SHORT_FAN_IN, SHORT_SET, SHORT_RIGL, SHORT_RIGL_FAN_IN = map(
    at_two_percent, (STATIC, STATIC_SCALED, STATIC_FAN_IN, SET, RIGL, RIGL_FAN_IN)
)
