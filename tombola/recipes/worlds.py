"""Worlds like another but for one thing, each made once."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from weakref import WeakKeyDictionary

from tombola.errors import RecipeError
from tombola.pieces.schedule import round_half_up
from tombola.values.digest import digest
from tombola.world.optimiser import LastRate, Rate, Stretched
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


def with_rate(world: World, change: Callable[[Rate], Rate], what: str) -> World:
    """The world with another learning-rate schedule, made from its own.

    Raises:
        RecipeError: its optimiser has none that could be exchanged; `what` wanted one.
    """
    optimiser = world.optimiser
    if not (is_dataclass(optimiser) and "rate" in {field.name for field in fields(optimiser)}):
        raise RecipeError(
            f"{what}: the {type(optimiser).__name__} of world {world.name!r} is no dataclass with "
            "a field `rate`, so its schedule cannot be exchanged. Give it one."
        )
    rate = change(optimiser.rate)
    changed = replace(optimiser, rate=rate)
    return once(world, ["rate", rate], lambda: replace(world, optimiser=changed))


def at_last_rate(world: World, what: str) -> World:
    """The world with the learning rate that its schedule ends with, from the first step on."""
    return with_rate(world, lambda rate: LastRate(of=rate), what)


def stretched(world: World, length: int) -> World:
    """The world with trainings of `length` steps: rates and readings at their relative places."""
    assert world.evaluate_every is not None
    times = length / world.steps
    rate = Stretched(of=world.optimiser.rate, times=times)
    every = max(1, round_half_up(times * world.evaluate_every))
    return once(world, ["stretched", length], lambda: timed(world, length, rate, every))


def timed(world: World, steps: int, rate: Rate, every: int | None) -> World:
    """The world with trainings of so many steps, these rates and readings every so many."""
    optimiser = replace(world.optimiser, rate=rate)  # type: ignore[type-var]
    return replace(world, steps=steps, optimiser=optimiser, evaluate_every=every)


def differences(one: World, other: World) -> set[str]:
    """The fields in which two worlds differ, by content; names are for people, and `thin` for the
    making of others."""
    return {
        field.name
        for field in fields(World)
        if field.name not in NOT_COMPARED
        and digest(getattr(one, field.name)) != digest(getattr(other, field.name))
    }


def varied(world: World, *, lr: float | None = None, steps: int | None = None) -> World:
    """The world at another learning rate or length; schedules keep their relative places.

    Its name says so, as `tombola find --on` takes it: `digits,lr=0.01,steps=4000`.

    Raises:
        WorldError: no learning rate, or a length that is none.
    """
    name, found = world.name, world
    if lr is not None:
        optimiser = replace(world.optimiser, lr=lr)  # type: ignore[type-var]
        found, name = replace(found, optimiser=optimiser), f"{name},lr={lr:g}"
    if steps is not None:
        found, name = stretched(found, steps), f"{name},steps={steps}"
    return replace(found, name=name)
