"""Sparse training from end to end: what is shared, what it costs, and starts by fan-in."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from drive import drive

import tombola.pieces.dynamics as masks
from tombola.errors import CheckError
from tombola.lab.checks import checks_of
from tombola.lab.question import Trial
from tombola.pieces.action import FanIn, Site
from tombola.pieces.allocation import Global
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities
from tombola.pieces.score import Random
from tombola.recipes import AC_DC, GRADUAL, RIGL, SET, SNFS, STATIC, STATIC_FAN_IN, Recipe, Round
from tombola.recipes.cost import training_cost
from tombola.testing import toy_world
from tombola.values.rng import stream
from tombola.world.work import multiplications
from tombola.world.world import World

WORLD = toy_world()  # 60 steps of 6-12-8-3: 72 + 96 + 24 = 192 weights


def ticket_of(recipe: Recipe, world: World = WORLD, seed: int = 0) -> Round:
    recipe.check(world)
    *_, ticket = drive(recipe.loop(recipe, world, seed))
    return ticket


def often(recipe: Recipe, **changes: Any) -> Recipe:
    moving: Any = recipe.dynamics
    return replace(recipe, dynamics=replace(moving, every=10, **changes))


def test_a_dense_start_and_what_is_cut_on_the_way() -> None:
    ticket = ticket_of(often(GRADUAL))
    assert ticket.job.mask.load().names == ()
    assert ticket.cut is not None
    assert ticket.end.kept == ticket.cut.kept
    assert sum(ticket.end.kept.values()) == 58  # .3 of 192
    assert ticket.end.moves is not None
    # t0 15, T 36: updates at 25, 35 and 36, the last of which finds nothing left to cut.
    assert [row[0] for row in ticket.end.moves["layers.1.weight"]] == [0, 25, 35]


def test_several_ends_share_one_dense_start() -> None:
    recipe = replace(often(GRADUAL), schedule=Densities(values=(0.5, 0.1)))
    rounds = drive(recipe.loop(recipe, WORLD, 0))
    assert [sum(turn.end.kept.values()) for turn in rounds] == [96, 19]
    assert len({turn.job.mask.digest for turn in rounds}) == 1


@pytest.mark.parametrize("exact", [True, False])
def test_a_study_holds_a_redistributing_recipe_to_its_total(exact: bool) -> None:
    class Question:
        recipe, world, seeds, arms = often(SNFS), WORLD, (0,), {}

    ticket = ticket_of(Question.recipe)
    assert ticket.cut is not None and ticket.end.kept != ticket.cut.kept
    if not exact:
        fewer = {**ticket.end.kept, "layers.1.weight": ticket.end.kept["layers.1.weight"] - 1}
        ticket = replace(ticket, end=replace(ticket.end, kept=fewer))
    rounds: Any = {Trial(arm="ticket", seed=0): (ticket,)}
    question: Any = Question
    if exact:
        assert checks_of(question, rounds)["count_exact"] is True
    else:
        with pytest.raises(CheckError, match="count_exact"):
            checks_of(question, rounds)


# -- cost -----------------------------------------------------------------------------------------


def test_products_of_linear_layers() -> None:
    assert list(multiplications(WORLD).values()) == [72, 96, 24]


def kept_share(ticket: Round) -> float:
    return sum(ticket.end.kept.values()) / 192


def test_a_static_mask_and_set_cost_their_density() -> None:
    for recipe in (STATIC, often(SET)):
        ticket = ticket_of(recipe)
        assert training_cost(ticket.job, ticket.end) == pytest.approx(kept_share(ticket))


def test_rigl_costs_a_dense_gradient_at_each_update_and_snfs_at_each_step() -> None:
    ticket = ticket_of(often(RIGL, until=0.75))
    share = kept_share(ticket)
    updates = 4  # steps 10, 20, 30, 40 of 60
    expected = ((60 - updates) * 3 * share + updates * (2 * share + 1)) / (60 * 3)
    assert training_cost(ticket.job, ticket.end) == pytest.approx(expected)
    ticket = ticket_of(often(SNFS))
    assert training_cost(ticket.job, ticket.end) == pytest.approx((2 * share + 1) / 3)


def test_gradual_and_ac_dc_cost_what_they_keep_step_by_step() -> None:
    ticket = ticket_of(often(GRADUAL))
    share = kept_share(ticket)
    moving = masks.Gradual(every=10)
    spans = [(26, 1.0), (10, moving.share(25, 60)), (1, moving.share(35, 60)), (23, 0.0)]
    expected = sum(steps * (share + (1 - share) * left) for steps, left in spans) / 60
    assert training_cost(ticket.job, ticket.end) == pytest.approx(expected, abs=0.003)
    ticket = ticket_of(AC_DC)
    # Dense to step 6 (whose products come before the cut), then 3 by 3, sparse first; 51 on sparse.
    moving_too = masks.ACDC()
    dense = sum(step == 0 or not moving_too.sparse(step - 1, 60) for step in range(60))
    expected = (dense + (60 - dense) * share) / 60
    assert training_cost(ticket.job, ticket.end) == pytest.approx(expected)


def test_a_dense_network_costs_one() -> None:
    whole = replace(STATIC, schedule=Densities(values=(1.0,)))
    ticket = ticket_of(whole)
    assert training_cost(ticket.job, ticket.end) == 1.0
    twice = toy_world(steps=120)
    assert training_cost(ticket.job, ticket.end, whole=twice) == 0.5


# -- starts by fan-in -----------------------------------------------------------------------------


def test_each_unit_starts_with_the_variance_its_connections_want() -> None:
    kept = torch.arange(400).reshape(1, 400) < torch.tensor([[400], [100], [4], [0]])
    site = Site(
        start=torch.zeros(4, 400), end=torch.zeros(4, 400), kept=kept, stream=lambda w: stream(0, w)
    )
    values = FanIn()(site)
    for row, fan_in in enumerate((400, 100, 4, 1)):
        assert float(values[row].std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
    folded = replace(site, start=torch.zeros(4, 4, 10, 10), kept=kept.reshape(4, 4, 10, 10))
    assert FanIn()(folded).reshape(4, 400).equal(values)


def test_fan_in_starts_the_network_and_nothing_but_it_differs() -> None:
    plain, fan_in = ticket_of(STATIC), ticket_of(STATIC_FAN_IN)
    assert plain.job.mask.digest == fan_in.job.mask.digest
    ours, other = fan_in.job.begin.params.load(), plain.job.begin.params.load()
    assert not ours["layers.0.weight"].equal(other["layers.0.weight"])
    assert ours["layers.0.bias"].equal(other["layers.0.bias"])


def test_all_tensors_may_compete() -> None:
    recipe = often(GRADUAL)
    together = replace(recipe, rule=ByScore(score=Random(), allocation=Global()))
    ticket = ticket_of(together)
    assert ticket.job.dynamics.redistributes
    assert sum(ticket.end.kept.values()) == 58
