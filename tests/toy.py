"""The toy world of `tombola.testing`, shorter and judged at half density."""

from typing import Any

from tombola.testing import toy_net as toy_network
from tombola.testing import toy_world
from tombola.world.world import World

__all__ = ["small_world", "toy_network"]


def small_world(**changes: Any) -> World:
    """A world whose training takes some 20 ms."""
    return toy_world(**{"steps": 40, "judged_density": 0.5, **changes})
