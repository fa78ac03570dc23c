"""Recipes that cut before training, and the arm whose score is upside down."""

from dataclasses import replace

import pytest
import torch
from drive import drive
from toy import small_world

from tombola.errors import RecipeError
from tombola.lookup import find_recipe
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities
from tombola.pieces.score import ProsPr, Saliency, Snapshot
from tombola.recipes import EDGE_POPUP, IMP, PROSPR, RIGL, SNIP, SYNFLOW, Inverted, Recipe
from tombola.recipes.catalogue import FORESIGHT
from tombola.recipes.controls import control_loop
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init
from tombola.testing import check_control
from tombola.values.mask import FULL
from tombola.world.probe import NetworkProbe

WORLD = small_world(steps=20)
TWO = Densities(values=(0.5, 0.2))
TICKETS = [SNIP, *(find_recipe(name) for name in FORESIGHT if name != "prospr")]
TICKETS.append(replace(PROSPR, rule=ByScore(score=ProsPr(batch_size=40))))


@pytest.mark.parametrize("recipe", TICKETS, ids=lambda recipe: recipe.name)
def test_the_initial_values_are_cut_and_trained_once(recipe: Recipe) -> None:
    recipe = replace(recipe, schedule=TWO)
    init = Init(world=WORLD, seed=0).run(NoDesk()).params
    turns = drive(recipe.loop(recipe, WORLD, 0))
    assert [turn.job.mask.load().digest == FULL.digest for turn in turns] == [False, False]
    for turn, kept in zip(turns, (96, 38), strict=True):
        assert sum(turn.cut.kept.values()) == kept
        assert turn.job.begin.params.digest == init.digest
        assert (turn.job.begin.step, turn.job.until) == (0, 20)


@pytest.mark.parametrize("recipe", TICKETS, ids=lambda recipe: recipe.name)
def test_the_inverted_arm_stands_beside_each(recipe: Recipe) -> None:
    check_control(Inverted(), replace(recipe, schedule=Densities(values=(0.3,))), WORLD)


def test_the_inverted_arm_keeps_the_lowest_scores() -> None:
    (turn,) = drive(control_loop(Inverted(), SNIP, WORLD, 0))
    init = Init(world=WORLD, seed=0).run(NoDesk()).params.load()
    at = Snapshot(start=init, end=init, mask=FULL, layers=WORLD.layers)
    scores, mask = Saliency()(at, NetworkProbe(WORLD, 0)), turn.job.mask.load()
    stays, goes = (
        torch.cat([scores[x.name][mask.of(x.name, x.shape) == kept] for x in WORLD.layers])
        for kept in (True, False)
    )
    assert len(stays) == 96 and float(stays.max()) < float(goes.min())


@pytest.mark.parametrize("recipe", [IMP.up_to(1), RIGL, EDGE_POPUP], ids=lambda r: r.name)
def test_without_a_score_that_cuts_first_there_is_nothing_to_invert(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"arm 'inverted': .* does not cut by a score before"):
        drive(control_loop(Inverted(), recipe, WORLD, 0))


def test_synflow_sees_no_data() -> None:
    other = small_world(steps=20)
    inputs = torch.full_like(other.train.inputs, 3.0)
    other = replace(other, train=(inputs, other.train.targets))
    one, two = (drive(SYNFLOW.loop(SYNFLOW, world, 0))[0].job.mask for world in (WORLD, other))
    assert one.digest == two.digest


def test_too_few_examples_are_said_before_anything_is_trained() -> None:
    with pytest.raises(RecipeError, match="ProsPr wants 1024 training examples, there are 180"):
        PROSPR.check(WORLD)
