"""A wide two-layer network on some of MNIST, as objects `tombola` can name."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tombola.lab.probe import Pretraining
from tombola.world.catalogue import digits_wide, of_length_one
from tombola.world.data.mnist import mnist
from tombola.world.models import MeanField
from tombola.world.world import World

NEURONS = 1_000
BY_STEP = Pretraining(steps=(0, 30, 100, 300, 1_000, 3_000), neurons=(10, 50, 200))


def on(examples: int, data: Path | None) -> World:
    """The first so many training examples, in the order of the file; validation and test whole."""
    parts = {name: of_length_one(split) for name, split in mnist(data).items()}
    return replace(
        digits_wide(),
        name=f"mnist-wide-{examples}",
        model=partial(MeanField, 784, NEURONS, 10),
        train=parts["train"].part(torch.arange(examples)),
        validation=parts["validation"],
        test=parts["test"],
        steps=3_000,
        evaluate_every=1_000,
        judged_density=0.2,
    )


def mnist_1000(data: Path | None = None) -> World:
    """1,000 training examples."""
    return on(1_000, data)


def mnist_5000(data: Path | None = None) -> World:
    """5,000 training examples."""
    return on(5_000, data)


def mnist_20000(data: Path | None = None) -> World:
    """20,000 training examples, 5,000 of which neurons are selected on."""
    return on(20_000, data)
