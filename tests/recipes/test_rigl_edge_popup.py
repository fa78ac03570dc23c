"""RigL and edge-popup from end to end, on a world of four clusters that trains in a moment."""

from dataclasses import replace

import pytest
import torch
from drive import drive

from tombola.errors import RecipeError
from tombola.pieces.dynamics import RigL
from tombola.pieces.schedule import Densities
from tombola.recipes.edge_popup import EDGE_POPUP
from tombola.recipes.recipe import Recipe, Round
from tombola.recipes.rigl import RIGL
from tombola.train.evaluate import evaluate
from tombola.values.mask import Mask
from tombola.values.rng import stream
from tombola.world.models import LeNet
from tombola.world.optimiser import SGD
from tombola.world.world import World

OFTEN = replace(RIGL, dynamics=RigL(every=20))


def small_net() -> LeNet:
    return LeNet(10, 32, 24, 4)  # 320 + 768 + 96 = 1,184 weights


@pytest.fixture(scope="module")
def world() -> World:
    targets = torch.arange(600) % 4
    centres = 3.0 * torch.randn(4, 10, generator=stream(0, "centres"))
    inputs = centres[targets] + torch.randn(600, 10, generator=stream(0, "inputs"))
    train, validation, test = (
        (inputs[part], targets[part]) for part in (slice(400), slice(400, 500), slice(500, 600))
    )
    return World(
        model=small_net,
        train=train,
        validation=validation,
        test=test,
        steps=300,
        batch_size=20,
        optimiser=SGD(lr=0.1, momentum=0.9),
        judged_density=0.2,
    )


def ticket_of(recipe: Recipe, world: World, seed: int = 0) -> Round:
    recipe.check(world)
    (ticket,) = drive(recipe.loop(recipe, world, seed))
    return ticket


def counts(mask: Mask, world: World) -> list[int]:
    return [mask.kept(layer.name, layer.count) for layer in world.layers]


@pytest.mark.parametrize("recipe", [OFTEN, EDGE_POPUP])
def test_every_check_of_a_run_holds(recipe: Recipe, world: World) -> None:
    ticket = ticket_of(recipe, world)
    assert ticket.end.checks == {
        "rewind_exact": True,
        "optimiser_fresh": True,
        "cut_stays_zero": True,
    }
    assert ticket.cut is not None
    assert ticket.cut.checks == {"mask_nested": True, "count_exact": True}


@pytest.mark.parametrize("recipe", [OFTEN, EDGE_POPUP])
def test_a_run_depends_on_its_seed_alone(recipe: Recipe, world: World) -> None:
    one, again, other = (ticket_of(recipe, world, seed).end for seed in (0, 0, 1))
    assert (one.params.digest, one.mask.digest) == (again.params.digest, again.mask.digest)
    assert one.mask.digest != other.mask.digest


def test_rigl_moves_its_mask_at_erk_densities(world: World) -> None:
    ticket = ticket_of(OFTEN, world)
    before, after = ticket.job.mask.load(), ticket.end.mask.load()
    # .2 x 1184 = 236.8 weights, shared as 42 : 56 : 28 (the sums of the shapes)
    assert counts(before, world) == counts(after, world) == [79, 105, 53]
    for name, old in before.items():
        assert (after[name] & ~old).sum() > 0.2 * old.sum()
    assert ticket.end.metrics["test_accuracy"] > 0.95


def test_rigl_as_published_moves_at_steps_100_and_200_of_300(world: World) -> None:
    assert RIGL.dynamics == RigL(drop=0.3, every=100, until=0.75)
    ticket = ticket_of(RIGL, world)
    before, after = ticket.job.mask.load(), ticket.end.mask.load()
    assert before.digest != after.digest
    for name, old in before.items():
        first, second = (RIGL.dynamics.exchanged(int(old.sum()), step, 300) for step in (100, 200))
        assert (after[name] & ~old).sum() <= first + second


def test_several_densities_stand_side_by_side(world: World) -> None:
    recipe = replace(OFTEN, schedule=Densities(values=(0.5, 0.1)))
    rounds = drive(recipe.loop(recipe, world, 0))
    kept = [sum(counts(found.end.mask.load(), world)) / 1_184 for found in rounds]
    assert kept == pytest.approx([0.5, 0.1], abs=1.5 / 1_184)


def test_edge_popup_finds_far_more_than_a_random_mask_on_the_same_weights(world: World) -> None:
    ticket = ticket_of(EDGE_POPUP, world)
    found = ticket.end.mask.load()
    assert counts(found, world) == [160, 384, 48]
    start = ticket.job.begin.params.load()
    frozen = EDGE_POPUP.parametrisation.coords(start, ticket.job.mask.load(), 0)
    random = []
    for draw in range(10):
        shuffled = Mask(
            {
                name: kept.reshape(-1)[
                    torch.randperm(kept.numel(), generator=stream(draw, name))
                ].reshape(kept.shape)
                for name, kept in found.items()
            }
        )
        assert counts(shuffled, world) == counts(found, world)
        network = world.network(shuffled.apply(frozen))
        random.append(evaluate(network, world, world.test)["accuracy"])
    assert ticket.end.metrics["test_accuracy"] > 0.95
    assert max(random) < 0.7
    assert sum(random) / len(random) < 0.45  # chance is .25


def test_edge_popup_hands_on_frozen_weights_and_untouched_biases(world: World) -> None:
    ticket = ticket_of(EDGE_POPUP, world)
    start, end, mask = (
        handle.load() for handle in (ticket.job.begin.params, ticket.end.params, ticket.end.mask)
    )
    frozen = EDGE_POPUP.parametrisation.coords(start, mask, 0)
    assert end.keys() == start.keys()
    for name, value in end.items():
        assert value.equal(mask.apply(frozen)[name])


def test_edge_popup_at_density_one_is_refused(world: World) -> None:
    recipe = replace(EDGE_POPUP, schedule=Densities(values=(1.0,)))
    with pytest.raises(RecipeError, match="below 1"):
        drive(recipe.loop(recipe, world, 0))
