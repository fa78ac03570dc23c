"""The gradient that flows in arms of a study: against one by hand, and what it leaves out."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from drive import drive
from torch import nn
from toy import small_world

import tombola as tb
from tombola.errors import CallError
from tombola.lab.probe import GRADIENT_FLOW, GradientFlow
from tombola.lab.probe.gradient_flow import Flow
from tombola.lab.probe.probing import planned
from tombola.lab.study import Study
from tombola.pieces.dynamics import SET
from tombola.pieces.schedule import Densities
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train
from tombola.testing import check_probe
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.optimiser import SGD
from tombola.world.world import World, initial_params

FIFTH = Densities(values=(0.2,))
STEPS = (0, 10, 40)


def find(store: Path) -> Study:
    moving = replace(tb.recipes.SET, dynamics=SET(every=5), schedule=FIFTH)
    static, fan_in = (
        replace(recipe, schedule=FIFTH) for recipe in (tb.recipes.STATIC, tb.recipes.STATIC_FAN_IN)
    )
    return tb.find(
        static, small_world(), seeds=2, rule="2019", arms=("dense", fan_in, moving), store=store
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return find(tmp_path_factory.mktemp("flow") / "store")


def by_hand(world: World, params: Params, mask: Mask, examples: int) -> dict[str, float]:
    """The norm over all, and of each tensor, of the mean loss of the first examples of a split that
    has no more than these."""
    network = world.network(params).train()
    split = world.train
    assert len(split) <= examples
    nn.functional.cross_entropy(network(split.inputs), split.targets).backward()
    squares = {}
    for name, tensor in network.named_parameters():
        kept = mask.of(name, tensor.shape)
        squares[name] = sum(float(g) ** 2 for g in tensor.grad[kept].flatten())
    return {"all": math.sqrt(sum(squares.values()))} | {n: math.sqrt(s) for n, s in squares.items()}


def test_norms_are_those_of_networks_trained_to_each_step(study: Study) -> None:
    found = tb.probe(GradientFlow(steps=STEPS), study)
    rows = {(row["arm"], row["step"]): row["metrics"] for row in found.table("gradient_flow")}
    assert set(rows) == {(a, s) for a in ("ticket", "dense", "static-fan-in", "set") for s in STEPS}
    tensors = {
        (row["arm"], row["step"], row["tensor"]): row["metrics"]["gradient_norm"]["values"]
        for row in found.table("tensors")
    }
    world = small_world()
    for seed in (0, 1):
        init = initial_params(world, seed)
        whole = Train(world, seed, Point(init, None, 0), FULL, 40, world.objective)
        for step in STEPS:
            params = replace(whole, until=step).run(NoDesk()).params if step else init
            expected = by_hand(world, params.load(), FULL, 1_000)
            said = rows["dense", step]["gradient_norm"]["values"][seed]
            assert said == pytest.approx(expected.pop("all"), rel=1e-4)
            for name, norm in expected.items():
                assert tensors["dense", step, name][seed] == pytest.approx(norm, rel=1e-4, abs=1e-8)
    for row in found.table("summary"):
        for seed in (0, 1):
            norms = [rows[row["arm"], step]["gradient_norm"]["values"][seed] for step in STEPS]
            said = [row["metrics"][name]["values"][seed] for name in ("first", "most", "last")]
            assert said == [norms[0], max(norms), norms[-1]]
    assert rows["dense", 0]["moved"]["mean"] == 0.0 < rows["dense", 10]["moved"]["mean"]


def test_it_trains_each_arm_once_more_and_only_once(tmp_path: Path) -> None:
    study = find(tmp_path / "store")
    assert study.question is not None
    tally = planned(GradientFlow(steps=(0, 15, 30)), study.question, study.store)
    assert sum(job.steps for job in tally.run.values()) >= 2 * 4 * 30
    found = tb.probe(GradientFlow(steps=(0, 15, 30)), study)
    cost = found.document["cost"]
    assert cost["steps_trained"] == 2 * 4 * 30
    again = tb.probe(GradientFlow(steps=(0, 15, 30)), study)
    assert again.document["cost"]["steps_trained"] == 0
    assert again.document["tables"] == found.document["tables"]


def test_a_mask_that_moves_is_that_of_the_step(study: Study) -> None:
    """Of SET after its first updates: what is kept then, not at the start or the end."""
    assert study.question is not None
    found = tb.probe(GradientFlow(steps=(12,)), study)
    (row,) = [row for row in found.table("gradient_flow") if row["arm"] == "set"]
    trial = next(t for t in study.facts["trials"] if t["arm"] == "set" and t["seed"] == 1)
    world = small_world()
    recipe = replace(tb.recipes.SET, dynamics=SET(every=5), schedule=FIFTH)
    (turn,) = drive(recipe.loop(recipe, world, 1))
    early = replace(turn.job, until=12).run(NoDesk())
    mask = early.mask.load()
    assert mask.digest not in (turn.job.mask.digest, trial["mask"])
    expected = by_hand(world, early.params.load(), mask, 1_000)["all"]
    assert row["metrics"]["gradient_norm"]["values"][1] == pytest.approx(expected, rel=1e-4)


def flow(world: World, params: Params, mask: Mask = FULL, examples: int = 1_000) -> float:
    job = Flow(
        world=world,
        objective=world.objective,
        params=params,
        start=params,
        mask=mask,
        examples=examples,
    )
    norm = job.run(NoDesk()).norm
    assert norm is not None
    return norm


def test_weight_decay_is_no_part_of_it() -> None:
    plain = small_world(optimiser=SGD(lr=0.1))
    decayed = small_world(optimiser=SGD(lr=0.1, weight_decay=0.5))
    params = Init(plain, 0).run(NoDesk()).params.load()
    assert flow(plain, params) == flow(decayed, params)
    assert flow(plain, params) == pytest.approx(
        by_hand(plain, params, FULL, 1_000)["all"], rel=1e-5
    )


def test_cut_entries_are_no_part_of_it() -> None:
    world = small_world()
    params = initial_params(world, 0)
    fourth = {la.name: torch.arange(la.count).reshape(la.shape) % 4 == 0 for la in world.layers}
    mask = Mask(fourth)
    cut = mask.apply(params)
    norm = flow(world, cut, mask)
    assert norm == pytest.approx(by_hand(world, cut, mask, 1_000)["all"], rel=1e-5)
    assert norm < 0.9 * flow(world, cut)
    assert flow(world, params, mask) == norm  # though where training starts nothing is zero yet


def test_the_batch_is_the_same_each_time_and_no_more_than_asked() -> None:
    world = small_world()
    params = initial_params(world, 0)
    assert flow(world, params, examples=20) == flow(world, params, examples=20)
    assert flow(world, params, examples=20) != flow(world, params, examples=21)


class Normalised(nn.Sequential):
    """6-8-3 with normalisation."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def test_it_depends_on_the_scale_of_weights_before_normalisation() -> None:
    """Half the weights compute the same, and have twice the gradient: the note beside says so."""
    world = small_world(model=Normalised)
    params = initial_params(world, 0)
    half = params.replaced({name: params[name] / 2 for name in ("0.weight", "0.bias")})

    def norms(of: Params) -> dict[str, Any]:
        job = Flow(
            world=world,
            objective=world.objective,
            params=of,
            start=of,
            mask=FULL,
            examples=1_000,
        )
        found = job.run(NoDesk())
        return {"loss": found.loss, **found.norms}

    whole, halved = norms(params), norms(half)
    assert halved["loss"] == pytest.approx(whole["loss"], rel=1e-3)
    assert halved["0.weight"] == pytest.approx(2 * whole["0.weight"], rel=1e-2)
    assert halved["3.weight"] == pytest.approx(whole["3.weight"], rel=1e-2)


def test_values_by_fan_in_let_more_flow_than_those_for_dense_layers() -> None:
    """At a tenth of a deeper network, where what a unit adds up would shrink layer by layer."""

    class Deep(nn.Sequential):
        def __init__(self) -> None:
            sizes = (6, 40, 40, 40, 3)
            layers: list[nn.Module] = []
            for one, other in pairwise(sizes):
                layers += [nn.Linear(one, other), nn.ReLU()]
            super().__init__(*layers[:-1])

    world = small_world(model=Deep)
    norms = {}
    for recipe in (tb.recipes.STATIC, tb.recipes.STATIC_SCALED, tb.recipes.STATIC_FAN_IN):
        recipe = replace(recipe, schedule=Densities(values=(0.1,)))
        (turn,) = drive(recipe.loop(recipe, world, 0))
        norms[recipe.name] = flow(
            world, turn.job.mask.load().apply(turn.job.begin.params.load()), turn.job.mask.load()
        )
    assert norms["static"] < 0.5 * norms["static-scaled"]
    assert norms["static"] < 0.5 * norms["static-fan-in"]


def test_it_keeps_the_contract_and_refuses_what_cannot_be_meant(study: Study) -> None:
    check_probe(GRADIENT_FLOW)
    for wrong in ({"steps": (5, 5)}, {"steps": (-1,)}, {"examples": 0}):
        with pytest.raises(CallError, match=r"GradientFlow\("):
            GradientFlow(**wrong)
    for one, why in (
        (GradientFlow(steps=(41,)), "no step 41; its trainings end at step 40"),
        (GradientFlow(round=7), "no round 7; want 0 to 1"),
    ):
        with pytest.raises(CallError, match=why):
            tb.probe(one, study)


def test_arms_that_train_no_weights_are_left_out(tmp_path: Path) -> None:
    popup = replace(tb.recipes.EDGE_POPUP, schedule=FIFTH)
    static = replace(tb.recipes.STATIC, schedule=FIFTH)
    fields: Any = {"seeds": 1, "rule": "2019", "store": tmp_path / "s"}
    study = tb.find(static, small_world(), arms=("dense", popup), **fields)
    found = tb.probe(GradientFlow(steps=(0,)), study).table("gradient_flow")
    assert {row["arm"] for row in found} == {"ticket", "dense"}
    other = tb.find(popup, small_world(), arms=("dense",), **fields)
    with pytest.raises(CallError, match="edge-popup trains something else than weights"):
        tb.probe(GradientFlow(steps=(0,)), other)
