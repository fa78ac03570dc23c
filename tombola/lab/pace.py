"""How fast a world is on this machine, found out on steps that are thrown away."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from tombola.recipes.jobs import Train
from tombola.train.evaluate import evaluate
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.rng import stream
from tombola.world.world import World, initial_params

TRIED_SECONDS = 0.3
MOST_TRIED = 100  # steps
TRIED_EXAMPLES = 256


@dataclass(frozen=True, kw_only=True)
class Pace:
    """In seconds: a step of the whole network, one at the density `sparse_at`, and the evaluation
    of one example."""

    step: float
    sparse: float
    sparse_at: float
    example: float

    def of(self, training: Train, density: float) -> float:
        """Seconds of one training: its steps, its validation curve, the test split twice."""
        world = training.world
        assert world.evaluate_every is not None
        readings = training.steps // world.evaluate_every
        examples = readings * len(world.validation) + 2 * len(world.test)
        return training.steps * self.at(density) + examples * self.example

    def at(self, density: float) -> float:
        """Seconds of a step: on a straight line between the two that were timed.

        >>> pace = Pace(step=1.0, sparse=0.2, sparse_at=0.2, example=0.0)
        >>> pace.at(1.0), round(pace.at(0.6), 6), pace.at(0.1)
        (1.0, 0.6, 0.2)
        """
        if density <= self.sparse_at or self.sparse_at == 1.0:
            return self.sparse
        share = (density - self.sparse_at) / (1.0 - self.sparse_at)
        return self.sparse + (self.step - self.sparse) * share


def pace_of(world: World, least: float = 1.0) -> Pace:
    """Measured in about two seconds. least: density down to which steps will be made."""
    step = step_seconds(world, 1.0)
    sparse = step if least == 1.0 else min(step, step_seconds(world, least))
    few = world.validation.part(torch.arange(min(TRIED_EXAMPLES, len(world.validation))))
    with world.numerics.in_force():
        network = world.new_network(0)
        evaluation = seconds(lambda: evaluate(network, world, few))
    return Pace(step=step, sparse=sparse, sparse_at=least, example=evaluation / len(few))


def step_seconds(world: World, density: float) -> float:
    """Of a step under a random mask of this density in every layer."""
    many = replace(world, steps=MOST_TRIED + 1, evaluate_every=MOST_TRIED + 1)
    start = begun(many, density, until=1)
    tried, once = 1, seconds(lambda: train(start))
    once = min(once, seconds(lambda: train(start)))  # first calls are slow
    spent = once
    while spent < TRIED_SECONDS and tried < MOST_TRIED:
        tried = min(4 * tried, MOST_TRIED)
        longer = replace(start, until=tried)
        spent = seconds(lambda: train(longer))  # noqa: B023 (called at once)
    return max(spent - once, 1e-9) / (tried - 1) if tried > 1 else once


def begun(world: World, density: float, *, until: int, seed: int = 0) -> Training:
    """A training from its initial values to a step, under a random mask."""
    return Training(
        world=world,
        seed=seed,
        params=initial_params(world, seed),
        mask=random_mask(world, density, seed),
        step=0,
        until=until,
        objective=world.objective,
    )


def random_mask(world: World, density: float, seed: int = 0) -> Mask:
    """About so much of every layer, anywhere in it."""
    if density == 1.0:
        return FULL
    draws = {layer: stream(seed, "random-mask", layer.name) for layer in world.layers}
    return Mask(
        {layer.name: torch.rand(layer.shape, generator=g) < density for layer, g in draws.items()}
    )


def seconds(work: Callable[[], object]) -> float:
    """That a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
