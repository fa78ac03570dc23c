"""Iterative magnitude pruning against the algorithm written out; its rewound and one-shot forms."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from drive import drive
from toy import small_world

from tombola.pieces.rewind import ToStep
from tombola.pieces.schedule import Densities, LayerRates
from tombola.recipes.imp import IMP, IMP_REWIND, ONESHOT
from tombola.world.optimiser import SGD
from tombola.world.world import initial_params

WORLD = small_world(rates={"linear": 0.8, "output": 0.9}, judged_density=0.4)
STEPS, BATCH = WORLD.steps, WORLD.batch_size


def written_out(world, seed: int, rounds: int, k: int = 0) -> list[dict[str, torch.Tensor]]:
    """The paper's steps with plain torch; of tombola only the initial values and the order."""
    theta0 = {name: t.clone() for name, t in initial_params(world, seed).items()}
    inputs, targets = world.train.inputs, world.train.targets
    masks = {n: torch.ones_like(t) for n, t in theta0.items() if n.endswith("weight")}
    original = {n: m.numel() for n, m in masks.items()}
    restart, first, ends = theta0, 0, []
    for number in range(rounds + 1):
        if number:
            for name, mask in masks.items():
                rate = 0.9 if name == "layers.2.weight" else 0.8
                keep = int(original[name] * rate**number + 0.5)
                magnitude = torch.where(mask.bool(), ends[-1][name].abs(), torch.tensor(-1.0))
                best = sorted(range(mask.numel()), key=lambda i: -magnitude.flatten()[i])[:keep]
                flat = torch.zeros(mask.numel())
                flat[best] = 1.0
                masks[name] = flat.reshape(mask.shape)
        network = world.new_network(seed)
        start = restart if number else theta0
        network.load_state_dict({n: t * masks.get(n, 1.0) for n, t in start.items()})
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        for step in range(first if number else 0, STEPS):
            epoch, place = divmod(step, world.steps_per_epoch)
            index = world.order(seed, epoch)[place * BATCH : (place + 1) * BATCH]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[index]), targets[index]).backward()
            for name, parameter in network.named_parameters():
                parameter.grad *= masks.get(name, torch.ones(()))
            optimiser.step()
            if number == 0 and step + 1 == k:
                restart, first = {n: t.clone() for n, t in network.state_dict().items()}, k
        ends.append({n: t.clone() for n, t in network.state_dict().items()})
    return ends


@pytest.mark.parametrize("k", [0, 15])
def test_imp_equals_the_algorithm_written_out(k: int) -> None:
    world = replace(WORLD, optimiser=SGD(lr=0.1, momentum=0.9))
    recipe = replace(IMP, schedule=LayerRates(rounds=3), rewind=ToStep(step=k))
    rounds = drive(recipe.loop(recipe, world, 1))
    for turn, expected in zip(rounds, written_out(world, 1, 3, k), strict=True):
        found = turn.end.params.load()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
        kept = {n: int((t != 0).sum()) for n, t in expected.items() if n.endswith("weight")}
        if turn.target.round:
            assert turn.end.kept == kept


def test_each_round_starts_from_the_initial_values_and_cuts_the_round_before() -> None:
    rounds = drive(IMP.loop(IMP, WORLD, 0))
    init = initial_params(WORLD, 0)
    assert rounds[-1].target.density <= 0.4 < rounds[-2].target.density
    for before, turn in pairwise(rounds):
        assert turn.job.begin.params.digest == init.digest
        assert (turn.job.begin.step, turn.job.begin.slots) == (0, None)
        assert turn.job.mask.load() <= before.job.mask.load()
        end, mask = before.end.params.load(), turn.job.mask.load()
        for layer in WORLD.layers:
            was, now = before.job.mask.load().of(layer.name, layer.shape), mask[layer.name]
            cut = end[layer.name].abs()[was & ~now]
            assert bool((cut.max() <= end[layer.name].abs()[now]).all())


def test_rewinding_starts_from_step_k_with_an_empty_optimiser_and_the_clock_at_k() -> None:
    recipe = replace(IMP_REWIND, rewind=ToStep(step=15)).up_to(2)
    rounds = drive(recipe.loop(recipe, WORLD, 0))
    for turn in rounds[1:]:
        assert turn.job.begin.step == 15
        assert turn.job.begin.slots is None
        assert turn.end.began == 15
        assert turn.end.checks["optimiser_fresh"] is True
    assert rounds[1].job.begin.params.digest != rounds[0].job.begin.params.digest


def test_one_shot_cuts_every_target_from_the_dense_network() -> None:
    recipe = replace(ONESHOT, schedule=Densities(values=(0.6, 0.3)))
    rounds = drive(recipe.loop(recipe, WORLD, 0))
    dense = rounds[0].end.params.load()
    total = sum(layer.count for layer in WORLD.layers)
    for turn in rounds[1:]:
        mask = turn.job.mask.load()
        kept = torch.cat([dense[x.name].abs()[mask.of(x.name, x.shape)] for x in WORLD.layers])
        cut = torch.cat([dense[x.name].abs()[~mask.of(x.name, x.shape)] for x in WORLD.layers])
        assert kept.numel() == int(total * turn.target.density + 0.5)
        assert float(cut.max()) <= float(kept.min())
        assert turn.job.begin.params.digest == initial_params(WORLD, 0).digest


def test_a_diverged_round_ends_the_loop_and_is_an_outcome() -> None:
    world = replace(WORLD, optimiser=SGD(lr=1e30))
    rounds = drive(IMP.loop(IMP, world, 0))
    assert len(rounds) == 1
    assert rounds[0].end.diverged
    assert all(value is None for value in rounds[0].end.metrics.values())
