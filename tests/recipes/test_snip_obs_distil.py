"""SNIP, OBS and the KD ticket, each from end to end on a small separable problem."""

from dataclasses import replace

import pytest
import torch
from drive import drive
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.schedule import Densities
from tombola.pieces.score import Saliency, Snapshot
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.recipes.distil import KD_TICKET
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init
from tombola.recipes.recipe import Recipe, Round
from tombola.recipes.second_order import OBS, OBS_STEPWISE
from tombola.recipes.snip import SNIP
from tombola.train.evaluate import evaluate
from tombola.values.mask import FULL
from tombola.values.rng import stream
from tombola.world.distillation import Distillation
from tombola.world.models import LeNet
from tombola.world.optimiser import Adam
from tombola.world.probe import NetworkProbe
from tombola.world.world import World

SMALL_OBS = replace(OBS, rule=OptimalBrainSurgeon(examples=100))


def draw(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, name))


def tiny() -> World:
    """Three clusters in 8 dimensions, a network of 80 + 30 weights, judged at .4: 44 weights."""
    targets = torch.arange(200) % 3
    inputs = 2 * draw("centres", 3, 8)[targets] + draw("spread", 200, 8)
    return World(
        model=lambda: LeNet(8, 10, 3),
        train=(inputs[:160], targets[:160]),
        test=(inputs[160:], targets[160:]),
        steps=60,
        batch_size=20,
        optimiser=Adam(lr=1e-2),
        judged_density=0.4,
    )


def kept(one: Round) -> int:
    return sum(one.job.mask.load().kept(layer.name, layer.count) for layer in tiny().layers)


def bits(rounds: tuple[Round, ...]) -> list[tuple[str, str]]:
    return [(one.job.mask.digest, one.end.params.digest) for one in rounds]


@pytest.mark.parametrize("recipe", [SNIP, SMALL_OBS, KD_TICKET], ids=lambda recipe: recipe.name)
def test_loop_keeps_exactly_what_is_asked_and_repeats_bit_for_bit(recipe: Recipe) -> None:
    world = tiny()
    recipe.check(world)
    rounds = drive(recipe.loop(recipe, world, 0))
    assert rounds[-1].target.density == 0.4
    assert kept(rounds[-1]) == 44
    assert rounds[-1].end.metrics["test_accuracy"] > 0.8
    assert bits(drive(recipe.loop(recipe, world, 0))) == bits(rounds)
    assert bits(drive(recipe.loop(recipe, world, 1)))[-1] != bits(rounds)[-1]


def test_snip_cuts_the_untrained_network_where_the_loss_feels_it_least() -> None:
    world = tiny()
    [one] = drive(SNIP.loop(SNIP, world, 0))
    init = Init(world=world, seed=0).run(NoDesk()).params.load()
    assert (one.job.begin.params.digest, one.job.begin.step) == (init.digest, 0)
    at = Snapshot(start=init, end=init, mask=FULL, layers=world.layers)
    scores = Saliency()(at, NetworkProbe(world, 0))
    mask = one.job.mask.load()
    stays = torch.cat([scores[layer.name][mask[layer.name]] for layer in world.layers])
    goes = torch.cat([scores[layer.name][~mask[layer.name]] for layer in world.layers])
    assert len(stays) == 44 and float(stays.min()) > float(goes.max())


def test_obs_evaluates_the_compensated_weights_as_they_are() -> None:
    world = tiny()
    dense, cut = drive(SMALL_OBS.loop(SMALL_OBS, world, 0))
    assert (cut.job.begin.step, cut.job.until, cut.job.steps) == (60, 60, 0)
    assert cut.end.params.digest == cut.job.begin.params.digest
    params, before, mask = cut.end.params.load(), dense.end.params.load(), cut.job.mask.load()
    for layer in world.layers:
        keep = mask[layer.name]
        moved = params[layer.name] != before[layer.name]
        assert float(moved[keep].float().mean()) > 0.9  # to make up for the cuts
        assert not bool(params[layer.name][~keep].any())
    assert torch.equal(params["layers.0.bias"], before["layers.0.bias"])
    found = evaluate(world.network(params), world, world.test)
    assert cut.end.metrics["test_loss"] == found["loss"]
    assert cut.end.metrics["test_accuracy"] == found["accuracy"]


def test_obs_goes_on_from_the_compensated_weights_round_after_round() -> None:
    world, recipe = (
        tiny(),
        replace(OBS_STEPWISE, rule=SMALL_OBS.rule, schedule=Densities(values=(0.6, 0.4))),
    )
    dense, first, second = drive(recipe.loop(recipe, world, 0))
    assert [kept(one) for one in (dense, first, second)] == [110, 66, 44]
    assert second.job.mask.load() <= first.job.mask.load()


def test_obs_is_refused_where_its_hessian_would_not_fit() -> None:
    recipe = replace(OBS, rule=OptimalBrainSurgeon(examples=60, limit=100))
    with pytest.raises(RecipeError, match=r"recipe 'obs' on world 'unnamed': .* all 110 weights"):
        recipe.check(tiny())


def test_kd_ticket_starts_over_and_learns_from_the_dense_network_of_its_seed() -> None:
    dense, ticket = drive(KD_TICKET.loop(KD_TICKET, tiny(), 0))
    assert isinstance(ticket.job.objective, Distillation)
    assert ticket.job.given["teacher"].digest == dense.end.params.digest
    assert ticket.job.begin == dense.job.begin and ticket.job.begin.step == 0
    assert not dense.job.given

    size = {name: dense.end.params.load()[name].abs() for name in ticket.job.mask.load().names}
    stays = torch.cat([size[name][keep] for name, keep in ticket.job.mask.load().items()])
    goes = torch.cat([size[name][~keep] for name, keep in ticket.job.mask.load().items()])
    assert float(stays.min()) > float(goes.max())  # all tensors together


def test_kd_ticket_differs_from_the_same_ticket_on_hard_labels() -> None:
    hard = replace(KD_TICKET, retrain=None)
    soft_end = drive(KD_TICKET.loop(KD_TICKET, tiny(), 0))[-1]
    hard_end = drive(hard.loop(hard, tiny(), 0))[-1]
    assert soft_end.job.mask.digest == hard_end.job.mask.digest
    assert soft_end.end.params.digest != hard_end.end.params.digest
