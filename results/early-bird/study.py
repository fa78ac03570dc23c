"""A network of two hidden layers with normalisation on some of MNIST, and early-bird tickets."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tombola.world.catalogue import mnist_lenet
from tombola.world.optimiser import SGD, Drops
from tombola.world.world import World


class Normed(nn.Sequential):
    """784-200-100-10, batch normalisation behind both hidden layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(784, 200, bias=False),
            nn.BatchNorm1d(200),
            nn.ReLU(),
            nn.Linear(200, 100, bias=False),
            nn.BatchNorm1d(100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )


def mnist_normed(data: Path | None = None) -> World:
    """6,000 examples, 20 epochs of 60 steps; the learning rate falls to a tenth at half and three
    quarters, as in the paper's 160 epochs."""
    world = mnist_lenet(data)
    return replace(
        world,
        name="mnist-normed",
        model=Normed,
        thin=None,
        train=world.train.part(torch.arange(6_000)),
        optimiser=SGD(lr=0.1, momentum=0.9, weight_decay=1e-4, rate=Drops(at=(600, 900))),
        batch_size=100,
        steps=1_200,
        evaluate_every=300,
        judged_density=0.5,
        margin=0.01,
    )
