"""Tickets found in one world and trained in another, and worlds that start from given weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drive import drive
from toy import small_world

import tombola as tb
from tombola.errors import RecipeError, TombolaError, WorldError
from tombola.lab.question import Question
from tombola.lab.study import arms_of
from tombola.pieces.rewind import ToStep
from tombola.pieces.schedule import Densities, Geometric, Linear
from tombola.recipes import (
    BERT_TICKET,
    EDGE_POPUP,
    IMP,
    IMP_REWIND,
    KD_TICKET,
    ONESHOT,
    Recipe,
    Shuffle,
    Uncut,
    transferred,
)
from tombola.recipes.controls import control_loop
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Train
from tombola.testing import check_control, check_recipe
from tombola.values.params import params_of
from tombola.values.point import Point
from tombola.world.models import LeNet
from tombola.world.optimiser import SGD, Adam
from tombola.world.pretrained import misfits, pretrained
from tombola.world.world import World, initial_params

HEAD = ("layers.2.*",)


def source(**changes: Any) -> World:
    """The toy world, where tickets are found."""
    return small_world(**{"name": "there", "optimiser": Adam(lr=1e-2), **changes})


def five_classes(**changes: Any) -> World:
    """A task of five classes for the same network with another head."""
    there = small_world()
    splits = {
        name: (getattr(there, name).inputs * 1.5, torch.arange(len(getattr(there, name))) % 5)
        for name in ("train", "test")
    }
    inputs, hidden = [layer.weight.shape for layer in there.new_network(0).layers[:2]]
    model = lambda: LeNet(inputs[1], inputs[0], hidden[0], 5)  # noqa: E731
    settings = {
        "name": "here",
        "model": model,
        "steps": 30,
        "batch_size": 20,
        "optimiser": SGD(lr=0.1, momentum=0.9),
        "judged_density": 0.6,
        "rates": 0.8,
    }
    return World(**{**splits, **settings, **changes})


THERE, HERE = source(), five_classes()
LATE = replace(IMP_REWIND, rewind=ToStep(step=15), schedule=Geometric())
MOVED = transferred(LATE, THERE, fresh=HEAD)


def test_a_moved_ticket_equals_its_steps_written_out() -> None:
    """Mask and weights of step k from there, a fresh head, then all steps here."""
    rounds = drive(MOVED.loop(MOVED, HERE, 1))
    assert [turn.target for turn in rounds] == list(MOVED.targets(HERE))
    assert len(rounds) == 4  # as many as the world here is judged at
    at_home = replace(THERE, rates=HERE.rates, judged_density=HERE.judged_density)
    scoped = replace(LATE, scope=MOVED.scope)
    home = drive(scoped.loop(scoped, at_home, 1))
    fresh = initial_params(HERE, 1)
    for turn, origin in zip(rounds, home, strict=True):
        assert turn.job.mask.digest == origin.job.mask.digest
        start, early = turn.job.begin.params.load(), origin.job.begin.params.load()
        for name in start:
            assert torch.equal(start[name], (fresh if name.startswith("layers.2") else early)[name])
        begin = Point(start, None, 0)
        by_hand = Train(HERE, 1, begin, origin.job.mask, 30, HERE.objective).run(NoDesk())
        assert turn.end.params.digest == by_hand.params.digest
        assert turn.job.world is HERE
        assert turn.spent == origin.spent - origin.job.steps + 30
        assert not any(name.startswith("layers.2") for name in turn.job.mask.load().names)


def test_a_ticket_moved_to_the_world_it_comes_from_is_that_ticket() -> None:
    """The identity: nothing differs, so nothing changes, bit for bit."""
    recipe = replace(IMP, schedule=Geometric(rounds=2))
    back = transferred(recipe, THERE)
    own, moved = (drive(one.loop(one, THERE, 0)) for one in (recipe, back))
    assert [t.end.params.digest for t in moved] == [t.end.params.digest for t in own]
    assert [t.spent for t in moved] == [t.spent for t in own]


@pytest.mark.parametrize(
    "recipe",
    [LATE, ONESHOT, replace(EDGE_POPUP, schedule=Densities(values=(0.6,)))],
    ids=lambda recipe: recipe.name,
)
def test_moved_recipes_keep_the_promises_of_all_recipes(recipe: Recipe) -> None:
    check_recipe(transferred(recipe, THERE, fresh=HEAD), HERE)


def test_controls_stand_beside_a_moved_ticket() -> None:
    for control in (Shuffle(), tb.recipes.Reinit(), Uncut(), tb.recipes.Dense()):
        check_control(control, MOVED.up_to(2), HERE)
    (shuffled,) = drive(control_loop(Shuffle(), MOVED.up_to(2), HERE, 0))
    ticket = drive(MOVED.up_to(2).loop(MOVED.up_to(2), HERE, 0))[-1]
    assert shuffled.job.begin.params.digest == ticket.job.begin.params.digest
    kept = [turn.job.mask.load() for turn in (shuffled, ticket)]
    assert {n: int(k.sum()) for n, k in kept[0].items()} == {
        n: int(k.sum()) for n, k in kept[1].items()
    }


def test_a_study_of_moved_tickets_beside_those_found_here(tmp_path: Path) -> None:
    study = tb.find(MOVED, HERE, seeds=2, arms=("dense", "shuffle", LATE), store=tmp_path / "s")
    assert study.document["recipe"] == "imp-rewind-from-there"
    assert study.checks["arms_paired"] is True
    assert {row["arm"] for row in study.rows} == {"ticket", "dense", "shuffle", "imp-rewind"}
    again = tb.find(MOVED, HERE, seeds=2, arms=("dense", "shuffle", LATE), store=tmp_path / "s")
    assert again.document["cost"]["steps_trained"] == 0
    other = transferred(LATE, source(optimiser=SGD(lr=0.2)), fresh=HEAD)
    elsewhere = Question(recipe=other, world=HERE, seeds=(0,), arms=arms_of(("dense", "shuffle")))
    assert elsewhere.digest != study.digest


@pytest.mark.parametrize(
    ("fresh", "message"),
    [
        ((), r"layers\.2\.bias is \(3,\) there, \(5,\) here; layers\.2\.weight is \(3, .*fresh=\("),
        (("layers.9.*",), r"'layers\.9\.\*', which is to be drawn anew, is no tensor of \["),
    ],
)
def test_networks_of_different_shapes_are_refused_before_anything_is_trained(
    fresh: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    recipe = transferred(LATE, THERE, fresh=fresh)
    with pytest.raises(
        RecipeError, match=rf"recipe 'imp-rewind-from-there': .* 'there' .* 'here': .*{message}"
    ):
        tb.find(recipe, HERE, seeds=1, arms=("dense",), store=tmp_path / "s")
    with pytest.raises(RecipeError, match="does not fit"):
        tb.find(LATE, HERE, seeds=1, arms=("dense", recipe), store=tmp_path / "s")


def test_what_is_named_by_misfits() -> None:
    one = {"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(2)}
    assert misfits(one, one, ()) is None
    assert misfits(one, {**one, "b": torch.ones(3)}, ("b",)) is None
    assert misfits(one, {**one, "c": torch.ones(2).double()}, ()) == (
        "c is torch.float32 there, torch.float64 here"
    )
    many = {str(n): torch.ones(1) for n in range(9)}
    assert str(misfits(many, one, ())).endswith("; and 6 more")


def test_a_scope_that_differs_is_refused() -> None:
    other = five_classes(unpruned=("layers.0.*",))
    recipe = transferred(IMP, five_classes(name="there", model=HERE.model))
    recipe.check(other)
    drive(recipe.loop(replace(recipe, schedule=Geometric(rounds=1)), other, 0))
    with pytest.raises(RecipeError, match="Transfer the recipe with retrain=None"):
        distilled = transferred(KD_TICKET, THERE, fresh=HEAD)
        drive(distilled.loop(distilled, HERE, 0))


# -- pre-trained weights ---------------------------------------------------------------------------


def test_a_world_starts_from_pretrained_weights_with_a_fresh_head() -> None:
    trained = params_of(HERE.new_network(77))
    world = pretrained(HERE, trained, fresh=HEAD)
    first, second = (initial_params(world, seed) for seed in (0, 1))
    for name, tensor in trained.items():
        same = torch.equal(first[name], second[name])
        assert same == (name != "layers.2.weight")
        assert torch.equal(first[name], tensor) == (not name.startswith("layers.2.w"))
    assert torch.equal(first["layers.2.weight"], initial_params(HERE, 0)["layers.2.weight"])
    assert world.digest != HERE.digest
    assert pretrained(HERE, trained, fresh=HEAD).digest == world.digest
    assert pretrained(HERE, params_of(HERE.new_network(78)), fresh=HEAD).digest != world.digest
    assert world.name == "here-pretrained"


def test_tickets_of_a_pretrained_network_start_over_from_its_weights() -> None:
    trained = params_of(HERE.new_network(77))
    world = pretrained(HERE, trained, fresh=HEAD)
    recipe = replace(BERT_TICKET, schedule=Linear(rounds=3))
    rounds = drive(recipe.loop(recipe, world, 0))
    total = sum(layer.count for layer in world.layers)
    assert [sum(turn.end.kept.values()) for turn in rounds[1:]] == [
        int(total * density + 0.5) for density in (0.9, 0.8, 0.7)
    ]
    for turn in rounds:
        start = turn.job.begin.params.load()
        assert torch.equal(start["layers.0.weight"], trained["layers.0.weight"])


def test_pretrained_weights_that_do_not_fit_are_refused() -> None:
    trained = params_of(THERE.new_network(0))
    with pytest.raises(WorldError, match=r"world 'here': layers\.2\.bias is \(3,\) there, \(5,\)"):
        pretrained(HERE, trained)
    missing = {name: tensor for name, tensor in trained.items() if name != "layers.0.bias"}
    with pytest.raises(TombolaError, match=r"layers\.0\.bias is here alone"):
        pretrained(HERE, missing, fresh=HEAD)
