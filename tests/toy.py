"""The toy world of `tombola.testing`, shorter and judged at half density."""

from typing import Any

from torch import nn

from tombola.testing import toy_net as toy_network
from tombola.testing import toy_world
from tombola.world.world import World

__all__ = ["Normed", "small_world", "toy_network"]


def small_world(**changes: Any) -> World:
    """A world whose training takes some 20 ms."""
    return toy_world(**{"steps": 40, "judged_density": 0.5, **changes})


class Normed(nn.Sequential):
    """6-12-8-3 with batch normalisation behind both hidden layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(6, 12, bias=False),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Linear(12, 8, bias=False),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Linear(8, 3),
        )
