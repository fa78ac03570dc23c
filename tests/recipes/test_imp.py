"""Iterative magnitude pruning against the algorithm written out; its other forms."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from drive import drive
from toy import small_world

from tombola.pieces.rewind import ToStep
from tombola.pieces.schedule import Densities, LayerRates
from tombola.recipes.imp import IMP, IMP_CONTINUED, IMP_REWIND, ONESHOT
from tombola.recipes.job import NoDesk, job_key
from tombola.recipes.jobs import Train
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


def trained_by_hand(world, seed: int, start, masks) -> dict[str, torch.Tensor]:
    """Masked SGD with a fresh optimiser for the whole length, with plain torch."""
    network = world.new_network(seed)
    network.load_state_dict({n: t * masks.get(n, 1.0) for n, t in start.items()})
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    inputs, targets = world.train.inputs, world.train.targets
    for step in range(STEPS):
        epoch, place = divmod(step, world.steps_per_epoch)
        index = world.order(seed, epoch)[place * BATCH : (place + 1) * BATCH]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs[index]), targets[index]).backward()
        for name, parameter in network.named_parameters():
            parameter.grad *= masks.get(name, torch.ones(()))
        optimiser.step()
    return {n: t.clone() for n, t in network.state_dict().items()}


def test_imp_continued_equals_the_algorithm_written_out() -> None:
    """Strategy 2: train, cut, train on, cut; each mask on the initial values, beside that."""
    world = replace(WORLD, optimiser=SGD(lr=0.1, momentum=0.9))
    recipe = replace(IMP_CONTINUED, schedule=LayerRates(rounds=3))
    rounds = drive(recipe.loop(recipe, world, 1))
    theta0 = dict(initial_params(world, 1))
    chain, masks = trained_by_hand(world, 1, theta0, {}), {}
    for turn in rounds[1:]:
        assert turn.target.counts is not None
        for name, keep in turn.target.counts.items():
            mask = masks.get(name, torch.ones_like(chain[name]))
            size = torch.where(mask.bool(), chain[name].abs(), torch.tensor(-1.0)).flatten()
            flat = torch.zeros(mask.numel())
            flat[size.argsort(descending=True)[:keep]] = 1.0
            masks[name] = flat.reshape(mask.shape)
        ticket = trained_by_hand(world, 1, theta0, masks)
        for name, tensor in ticket.items():
            torch.testing.assert_close(turn.end.params.load()[name], tensor, rtol=1e-3, atol=1e-5)
        chain = trained_by_hand(world, 1, chain, masks)  # from where it is, clock at 0
    first, second = (drive(r.loop(r, world, 1)) for r in (IMP.up_to(2), recipe.up_to(2)))
    assert first[1].end.params.digest == second[1].end.params.digest  # the first cut is the same
    assert first[2].end.mask.digest != second[2].end.mask.digest


def jobs_of(recipe, world, seed: int) -> list[Train]:
    """The trainings a recipe asks for, in order."""
    found, loop, answer = list[Train](), recipe.loop(recipe, world, seed), None
    while True:
        try:
            asked = loop.send(answer)
        except StopIteration:
            return found
        jobs = asked if isinstance(asked, tuple) else (asked,)
        found += [job for job in jobs if isinstance(job, Train)]
        results = tuple(job.run(NoDesk()) for job in jobs)
        answer = results if isinstance(asked, tuple) else results[0]


def test_imp_continued_counts_the_chain_and_the_ticket_and_trains_nothing_else() -> None:
    recipe = replace(IMP_CONTINUED, schedule=LayerRates(rounds=3))
    rounds, jobs = drive(recipe.loop(recipe, WORLD, 0)), jobs_of(recipe, WORLD, 0)
    # Dense, two more of the chain, three tickets.
    assert [job.steps for job in jobs] == [STEPS] * 6
    assert [turn.spent for turn in rounds] == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]
    chain = [job for job in jobs if job.begin.params.digest != jobs[0].begin.params.digest]
    assert len(chain) == 2
    for job in chain:
        assert (job.begin.step, job.begin.slots, job.until) == (0, None, STEPS)
    for number in range(4):
        part = {job_key(job) for job in jobs_of(recipe.up_to(number), WORLD, 0)}
        assert part <= {job_key(job) for job in jobs}
        assert len(part) == max(1, 2 * number)


def test_a_chain_that_diverges_leaves_the_tickets_that_were_cut_before() -> None:
    recipe, answer = replace(IMP_CONTINUED, schedule=LayerRates(rounds=4)), None
    loop, chain = recipe.loop(recipe, WORLD, 0), 0
    with pytest.raises(StopIteration) as end:
        while True:
            asked = loop.send(answer)
            if isinstance(asked, tuple):
                answer = tuple(job.run(NoDesk()) for job in asked)
                continue
            answer = asked.run(NoDesk())
            chain += isinstance(asked, Train)
            if chain == 3:
                answer = replace(answer, diverged_at=20)
    assert [turn.target.round for turn in end.value.value] == [0, 1, 2]
    assert not any(turn.end.diverged for turn in end.value.value)


def test_imp_continued_rewinds_its_tickets_and_not_its_chain() -> None:
    recipe = replace(IMP_CONTINUED, schedule=LayerRates(rounds=2), rewind=ToStep(step=15))
    rounds, jobs = drive(recipe.loop(recipe, WORLD, 0)), jobs_of(recipe, WORLD, 0)
    assert [turn.job.begin.step for turn in rounds] == [0, 15, 15]
    assert [turn.spent for turn in rounds] == [STEPS, 2 * STEPS - 15, 3 * STEPS - 15]
    assert [job.begin.step for job in jobs] == [0, 0, 0, 15, 15]
    assert [job.until for job in jobs] == [15, STEPS, STEPS, STEPS, STEPS]


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
    for recipe in (IMP_CONTINUED, ONESHOT):
        assert len(drive(recipe.loop(recipe, world, 0))) == 1
    rounds = drive(IMP.loop(IMP, world, 0))
    assert len(rounds) == 1
    assert rounds[0].end.diverged
    assert all(value is None for value in rounds[0].end.metrics.values())
