"""The 2019 LeNet study at a shortened length, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path

from tombola.pieces.schedule import LayerRates
from tombola.recipes.imp import IMP
from tombola.world.catalogue import mnist_lenet
from tombola.world.world import World

# 18 rounds reach 1.85 % density, past both break points of the paper (3.6 % and 2.9 %).
IMP_18 = replace(IMP, name="imp-18-rounds", schedule=LayerRates(rounds=18))


def lenet_12k(data: Path | None = None) -> World:
    """`mnist-lenet` with 12,000 steps in place of 50,000; the dense network stops well before."""
    return replace(mnist_lenet(data), name="mnist-lenet-12k", steps=12_000)
