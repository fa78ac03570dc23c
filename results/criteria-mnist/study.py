"""LeNet-300-100 on MNIST and the criteria beside each other, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path

from tombola.pieces.rewind import ToStep
from tombola.pieces.schedule import Densities
from tombola.recipes.second_order import OBD
from tombola.recipes.snip import SNIP
from tombola.world.catalogue import mnist_lenet
from tombola.world.world import World

CRITERIA = replace(SNIP, schedule=Densities(values=(0.2, 0.1, 0.05, 0.02)))


# The mask of OBD trained from the initial values, as `oneshot` is that of the largest weights.
OBD_RESET = replace(OBD, name="obd-reset", rewind=ToStep())


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
