"""Supermasks of LeNet-300-100 on MNIST, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path

from tombola.pieces.schedule import Densities
from tombola.recipes import (
    EDGE_POPUP_KAIMING,
    EDGE_POPUP_SCALED,
    MULTI_PRIZE,
    SUPERMASK,
    Recipe,
)
from tombola.world.catalogue import mnist_lenet
from tombola.world.optimiser import SGD, Cosine
from tombola.world.world import World

DENSITIES = (0.9, 0.7, 0.5, 0.3, 0.1, 0.05, 0.02)
FEW = (0.5, 0.1)
STEPS = 1_000


def lenet(data: Path | None = None, lr: float = 0.1) -> World:
    """1,000 steps of 100 images of MNIST by SGD with momentum, along a cosine to 0."""
    return replace(
        mnist_lenet(data),
        name="mnist-lenet-scores",
        steps=STEPS,
        batch_size=100,
        optimiser=SGD(lr=lr, momentum=0.9, rate=Cosine()),
        evaluate_every=STEPS // 2,
        judged_density=0.5,
    )


def chances(data: Path | None = None) -> World:
    """The same at a rate of 100, at which Zhou et al. train the chances of supermasks."""
    return replace(lenet(data, lr=100.0), name="mnist-lenet-chances")


def at(recipe: Recipe, densities: tuple[float, ...]) -> Recipe:
    """The recipe at these densities."""
    return replace(recipe, name=f"mnist-{recipe.name}", schedule=Densities(values=densities))


SCALED = at(EDGE_POPUP_SCALED, DENSITIES)
KAIMING, PRIZE = (at(r, FEW) for r in (EDGE_POPUP_KAIMING, MULTI_PRIZE))
CHANCES = at(SUPERMASK, (0.5,))
