"""Few digits, and distilled tickets with other constants, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path

import torch

from tombola.pieces.schedule import Densities
from tombola.recipes.distil import KD_TICKET
from tombola.recipes.recipe import Recipe
from tombola.world.catalogue import digits
from tombola.world.distillation import Distillation
from tombola.world.switched import Switched
from tombola.world.world import World

# Rounds 10 and 14 of a fifth each, where the dense network starts to lose.
KD = replace(KD_TICKET, name="kd-ticket", schedule=Densities(values=(0.107, 0.044)))


def digits_few(data: Path | None = None) -> World:
    """`digits` with 200 of its 1,077 training images and 1,000 steps, where soft labels may matter;
    judged at 4.4 %."""
    whole = digits(data)
    few = whole.train.part(torch.arange(200))
    return replace(
        whole, name="digits-few", train=few, steps=1_000, judged_density=0.044, margin=0.01
    )


def constants(temperature: float, weight: float) -> Recipe:
    """The ticket with other constants of the loss."""
    return replace(
        KD,
        name=f"tau-{temperature:g}-weight-{weight:g}",
        retrain=Distillation(temperature=temperature, weight=weight),
    )


TAU_1, TAU_2, TAU_8, TAU_16 = (constants(tau, 1.0) for tau in (1, 2, 8, 16))
HALF_1, HALF_4, HALF_16 = (constants(tau, 0.5) for tau in (1, 4, 16))
MOST_1, MOST_4, MOST_16 = (constants(tau, 0.9) for tau in (1, 4, 16))
# Switched off after two thirds, as on ImageNet (epoch 60 of 90).
OFF = replace(KD, name="switched-off", retrain=Switched(at=667))
