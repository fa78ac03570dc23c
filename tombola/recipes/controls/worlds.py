"""Worlds like another but for one thing, each made once."""

from collections.abc import Callable
from dataclasses import fields
from weakref import WeakKeyDictionary

from tombola.values.digest import digest
from tombola.world.world import World

_MADE: WeakKeyDictionary[World, dict[str, World]] = WeakKeyDictionary()

NOT_COMPARED = {"name", "thin"}


def once(world: World, change: object, make: Callable[[], World]) -> World:
    """`make()`, kept for as long as `world` is: a new world tries its network and looks through its
    data, and every seed and every arm asks for the same ones."""
    made = _MADE.setdefault(world, {})
    key = digest(change)
    if key not in made:
        made[key] = make()
    return made[key]


def differences(one: World, other: World) -> set[str]:
    """The fields in which two worlds differ, by content; names are for people, and `thin` for the
    making of others."""
    return {
        field.name
        for field in fields(World)
        if field.name not in NOT_COMPARED
        and digest(getattr(one, field.name)) != digest(getattr(other, field.name))
    }
