"""Digits with a learning rate that falls twice, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path

from tombola.world.catalogue import digits
from tombola.world.optimiser import SGD, Drops
from tombola.world.world import World


def digits_drops(data: Path | None = None) -> World:
    """`digits` under SGD with momentum, .1, a tenth of it from half of 1,000 steps, and a hundredth
    from three quarters; judged at round 14 (4.4 %), where one LeNet starts to lose."""
    return replace(
        digits(data),
        name="digits-drops",
        steps=1_000,
        optimiser=SGD(lr=0.1, momentum=0.9, rate=Drops(at=(500, 750))),
        judged_density=0.044,
    )
