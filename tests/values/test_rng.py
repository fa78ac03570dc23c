"""Draws keyed by name, and a global generator that nobody touches."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tombola.pieces.dynamics import RigL
from tombola.pieces.parametrisation.edge_popup import EdgePopup
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train
from tombola.testing import toy_world
from tombola.values.mask import FULL, Mask
from tombola.values.point import Point
from tombola.values.rng import borrowed_generators, derive, reseed, stream
from tombola.world.probe import NetworkProbe


def test_derived_numbers_are_pinned_and_fit_a_seed() -> None:
    assert derive(0, "order", 3) == 5172884068272721061
    assert derive(7) == 5135535630271676732
    assert all(0 <= derive(seed, "x") < 2**63 for seed in range(200))


def test_each_name_and_seed_has_a_stream_of_its_own() -> None:
    keys: list[tuple[Any, ...]] = [
        (0,),
        (1,),
        (0, "a"),
        (1, "a"),
        (0, "b"),
        (0, "a", 0),
        (0, "a", 1),
        (0, "a", "b"),
    ]
    draws = {tuple(torch.rand(4, generator=stream(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys) == len({derive(*key) for key in keys})
    one, other = (torch.randn(9, generator=stream(3, "mask")) for _ in range(2))
    assert one.equal(other)


def test_borrowed_generators_are_given_back_after_an_error_too() -> None:
    before = torch.get_rng_state()
    with suppress(ValueError), borrowed_generators():
        reseed(5)
        torch.rand(3)
        raise ValueError
    assert torch.get_rng_state().equal(before)


def test_reseeding_makes_initialisers_and_dropout_repeat() -> None:
    def draw() -> Tensor:
        with borrowed_generators():
            reseed(5)
            return nn.Dropout()(nn.Linear(8, 8).weight)

    assert draw().equal(draw())


class Noisy(nn.Module):
    """Draws from torch's global generator when it is made and whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        torch.rand(1)
        return self.layers(inputs)


def noisy_world(**changes: Any) -> Any:
    return toy_world(model=Noisy, steps=20, **changes)


def make_from_datasets() -> None:
    world = noisy_world()
    noisy_world(train=TensorDataset(world.train.inputs, world.train.targets), validation=None)


def train_it(**pieces: Any) -> None:
    world = noisy_world()
    half = Mask(
        {
            layer.name: torch.arange(layer.count).reshape(layer.shape) % 2 == 0
            for layer in world.layers
        }
    )
    start = Init(world=world, seed=0).run(NoDesk())
    Train(
        world=world,
        seed=0,
        begin=Point(start.params, None, 0),
        mask=half,
        until=20,
        objective=world.objective,
        **pieces,
    ).run(NoDesk())


def probe_it() -> None:
    probe = NetworkProbe(noisy_world(), 0)
    probe.batches(2, 10)


@pytest.mark.parametrize(
    "work",
    [
        make_from_datasets,
        lambda: (noisy_world().digest, noisy_world().layers),
        lambda: Init(world=noisy_world(), seed=3, draw=2).run(NoDesk()),
        train_it,
        lambda: train_it(dynamics=RigL(every=5)),
        lambda: train_it(parametrisation=EdgePopup()),
        probe_it,
        lambda: noisy_world().order(0, 1),
        lambda: FULL.digest,
    ],
    ids=["datasets", "world", "init", "train", "dynamics", "scores", "probe", "order", "mask"],
)
def test_no_seeding_and_no_draw_is_visible_outside(work: Callable[[], object]) -> None:
    torch.manual_seed(123)
    before = (
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )
    work()
    after = (
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )
    assert before[0].equal(after[0])
    assert before[1:] == after[1:]


def test_results_do_not_depend_on_the_global_generator() -> None:
    found = set()
    for number in (1, 2):
        torch.manual_seed(number)
        world = noisy_world()
        found.add((world.digest, Init(world=world, seed=4).run(NoDesk()).params.digest))
    assert len(found) == 1


def test_seeds_and_draws_differ_in_their_initial_values() -> None:
    world = noisy_world()
    started = [
        Init(world=world, seed=seed, draw=draw).run(NoDesk()).params.digest
        for seed in range(3)
        for draw in range(3)
    ]
    assert len(set(started)) == 9
