"""The worlds one can name on the command line, and what each is."""

from dataclasses import replace
from pathlib import Path

from tombola.world.data.digits import digits as digits_data
from tombola.world.data.mnist import mnist as mnist_data
from tombola.world.models import LeNet
from tombola.world.optimiser import Adam
from tombola.world.prepare import Scaled
from tombola.world.world import World

RATES_LENET = {"linear": 0.8, "output": 0.9}


def lenet_digits() -> LeNet:
    """64-300-100-10."""
    return LeNet(64, 300, 100, 10)


def small_digits() -> LeNet:
    """64-20-10, small enough for an exact inverse Hessian."""
    return LeNet(64, 20, 10)


def lenet_mnist() -> LeNet:
    """784-300-100-10."""
    return LeNet(784, 300, 100, 10)


def digits(data: Path | None = None) -> World:
    """LeNet-300-100 on 1,797 scans of 8 x 8 digits; a ticket study takes about a minute."""
    parts = digits_data()
    return World(
        name="digits",
        model=lenet_digits,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        steps=2_000,
        batch_size=60,
        optimiser=Adam(lr=1.2e-3),
        evaluate_every=10,
        rates=RATES_LENET,
        judged_density=0.1122,
        margin=0.01,
    )


def digits_short(data: Path | None = None) -> World:
    """`digits` with 200 steps, judged at 33 % density: for trying out, in seconds."""
    return replace(digits(), name="digits-short", steps=200, judged_density=0.333)


def digits_small(data: Path | None = None) -> World:
    """A 64-20-10 network on the same scans (1,480 weights), for exact second-order methods."""
    return replace(digits(), name="digits-small", model=small_digits, judged_density=0.5)


def mnist_lenet(data: Path | None = None) -> World:
    """LeNet-300-100 on MNIST as in 2019: Adam 1.2e-3, batch 60, 50,000 steps; round 10 judged."""
    parts = mnist_data(data)
    return World(
        name="mnist-lenet",
        model=lenet_mnist,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        steps=50_000,
        batch_size=60,
        optimiser=Adam(lr=1.2e-3),
        evaluate_every=100,
        rates=RATES_LENET,
        prepare=Scaled(),
        judged_density=0.1083,
        margin=0.002,
    )


def mnist_lenet_short(data: Path | None = None) -> World:
    """`mnist-lenet` with 2,000 steps."""
    return replace(mnist_lenet(data), name="mnist-lenet-short", steps=2_000)


WORLDS = {
    "digits": digits,
    "digits-short": digits_short,
    "digits-small": digits_small,
    "mnist-lenet": mnist_lenet,
    "mnist-lenet-short": mnist_lenet_short,
}
