"""Recipes that cut by curvature: what each trains, and what it is refused for."""

from dataclasses import replace
from typing import Any

import pytest
from drive import drive
from toy import small_world

from tombola.errors import RecipeError
from tombola.lookup import find_recipe
from tombola.pieces.layerwise import LayerwiseLeastSquares
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities
from tombola.pieces.score import OBD, DiagonalFisher, Magnitude
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.pieces.woodfisher import WoodFisher
from tombola.recipes import LAYERWISE, MAGNITUDE_AT_END, WOODFISHER, Recipe, grow
from tombola.recipes import OBD as OBD_RECIPE
from tombola.recipes.catalogue import SECOND_ORDER
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.world.objective import Call, CrossEntropy

WORLD = small_world(steps=40)
METHODS = {
    "obd": ByScore(score=OBD(examples=20)),
    "obs": OptimalBrainSurgeon(examples=20),
    "fisher": ByScore(score=DiagonalFisher(gradients=20)),
    "woodfisher": WoodFisher(gradients=20),
    "layerwise": LayerwiseLeastSquares(batches=1, batch_size=40),
}


def few(name: str, **changes: Any) -> Recipe:
    """A recipe of the catalogue with a rule that takes few examples."""
    recipe = find_recipe(name)
    return replace(recipe, **{"rule": METHODS[name.split("-")[0]], **changes})


def test_each_method_is_there_in_all_four_forms() -> None:
    found = {name: find_recipe(name) for name in SECOND_ORDER}
    assert len(found) == 1 + 6 * 4
    assert all(recipe.name == name and recipe.source for name, recipe in found.items())
    rules = {name: recipe.rule for name, recipe in found.items()}
    for name in ("obd", "obs", "fisher", "woodfisher", "layerwise", "layerwise-erk"):
        forms = [rules[name + how] for how in ("-retrained", "-stepwise", "-iterated")]
        assert forms == [rules[name]] * 3


@pytest.mark.parametrize("method", METHODS)
def test_one_cut_is_of_the_dense_network_and_trains_nothing_after(method: str) -> None:
    recipe = few(method, schedule=Densities(values=(0.5, 0.25)))
    dense, *cuts = drive(recipe.loop(recipe, WORLD, 0))
    alone = replace(recipe, schedule=Densities(values=(0.25,)))
    _, lone = drive(alone.loop(alone, WORLD, 0))
    assert cuts[1].end.params.digest == lone.end.params.digest
    for turn, kept in zip(cuts, (96, 48), strict=True):
        assert (sum(turn.cut.kept.values()), turn.job.steps) == (kept, 0)
        assert turn.spent == dense.spent == 40
        found = evaluate(WORLD.network(turn.end.params.load()), WORLD, WORLD.test)
        assert turn.end.metrics["test_loss"] == pytest.approx(found["loss"], rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_cut_after_cut_goes_on_from_the_one_before(method: str) -> None:
    recipe = few(f"{method}-stepwise", schedule=Densities(values=(0.5, 0.25)))
    dense, first, second = drive(recipe.loop(recipe, WORLD, 0))
    assert (first.spent, second.spent) == (dense.spent, dense.spent)
    assert second.job.mask.load() <= first.job.mask.load()
    once = few(method, schedule=Densities(values=(0.5, 0.25)))
    same, other = drive(once.loop(once, WORLD, 0))[1:]
    assert same.end.params.digest == first.end.params.digest
    assert other.end.params.digest != second.end.params.digest


def test_retrained_forms_train_the_whole_schedule_from_what_the_cut_left() -> None:
    for name, steps in (("woodfisher-retrained", 80), ("woodfisher-iterated", 120)):
        recipe = few(name, schedule=Densities(values=(0.5, 0.25)))
        *_, last = drive(recipe.loop(recipe, WORLD, 0))
        assert last.job.begin.params.digest == last.cut.params.digest
        assert (last.job.begin.step, last.job.steps, last.spent) == (0, 40, steps)


def test_weights_that_make_up_for_others_lose_less_than_the_largest() -> None:
    world = toy_world(steps=200)

    def loss(recipe: Recipe) -> float:
        recipe = replace(recipe, schedule=Densities(values=(0.3,)))
        return float(drive(recipe.loop(recipe, world, 0))[-1].end.metrics["test_loss"])

    assert loss(few("woodfisher", rule=WoodFisher(gradients=150))) < 0.8 * loss(MAGNITUDE_AT_END)


# -- what is said before anything is trained -------------------------------------------------------


class Views(CrossEntropy):
    """Runs the network twice."""

    def loss(self, call: Call, batch: Any, given: Any) -> Any:
        return super().loss(call, batch, given) + super().loss(call, batch, given)


@pytest.mark.parametrize("method", ["obd", "obs"])
def test_curvature_by_outputs_wants_a_loss_of_outputs(method: str) -> None:
    with pytest.raises(RecipeError, match=rf"recipe '{method}'.*one tensor of outputs.*Views"):
        few(method).check(small_world(objective=Views()))
    few("fisher").check(small_world(objective=Views()))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (WOODFISHER, "WoodFisher wants 400 training examples, there are 180"),
        (OBD_RECIPE, "OBD wants 256 training examples, there are 180"),
        (LAYERWISE, "LayerwiseLeastSquares wants 1000 training examples, there are 180"),
        (few("woodfisher", rule=WoodFisher(gradients=9, limit=1e-6)), r"keeps that .* 192 weights"),
        (
            few("layerwise", rule=LayerwiseLeastSquares(batches=1, batch_size=9, pattern=(2, 4))),
            r"inputs of \['layers.0.weight'\] are not a multiple of 4",
        ),
    ],
    ids=["gradients", "examples", "inputs", "memory", "pattern"],
)
def test_what_a_world_does_not_supply_is_said(recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"recipe '.*' on world 'toy': .*{message}"):
        recipe.check(WORLD)


@pytest.mark.parametrize("rule", [*METHODS.values(), ByScore(score=Magnitude())], ids=str)
def test_a_trained_network_is_not_to_be_had_where_cuts_come_first(rule: Any) -> None:
    recipe = replace(few("fisher"), rule=rule, loop=grow)
    with pytest.raises(RecipeError, match=r"needs weights after training.*but `grow` cuts first"):
        recipe.check(WORLD)
