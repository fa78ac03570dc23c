"""The probes of early-bird tickets and of pre-training, against what they rest on."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import Normed

import tombola as tb
from tombola.errors import CallError
from tombola.lab.probe import PRETRAINING, SETTLING, Pretraining
from tombola.lab.probe.probing import check_probe as applies
from tombola.lab.question import Question
from tombola.pieces.by_scale import ByScale
from tombola.pieces.schedule import Densities
from tombola.pieces.settling import WhenSettled, chance_distance, mask_distance
from tombola.recipes import EARLY_BIRD, IMP
from tombola.testing import check_probe, toy_world
from tombola.values.rng import stream
from tombola.world.models import MeanField
from tombola.world.objective import SquaredError
from tombola.world.optimiser import SGD, Adam
from tombola.world.world import World


def test_settling_shows_every_distance_and_what_was_saved(tmp_path: Path) -> None:
    world = toy_world(model=Normed, thin=None, steps=90, optimiser=SGD(lr=0.1, momentum=0.9))
    rule = WhenSettled(of=ByScale(), threshold=0.2, window=3)
    recipe = replace(EARLY_BIRD, rule=rule, schedule=Densities(values=(0.6, 0.5)))
    study = tb.find(recipe, world, seeds=2, store=tb.Store(tmp_path), arms=["dense", "ticket"])
    probed = tb.probe(SETTLING, study)
    assert probed.document["cost"]["steps_trained"] == 0
    settled, matrix = probed.table("settled"), probed.table("matrix")
    for row in settled:
        of = [one for one in matrix if one["density"] == row["density"]]
        for seed, step in enumerate(row["metrics"]["settled_step"]["values"]):
            last = max(
                one["step"] for one in of if one["metrics"]["distance"]["values"][seed] is not None
            )
            assert step is None or step == last
            newest = [
                one["metrics"]["distance"]["values"][seed]
                for one in of
                if one["step"] == last and one["apart"] < 3
            ]
            assert (step is not None) == (max(newest) <= 0.2 + 1e-12)
            spent = row["metrics"]["of_dense"]["values"][seed]
            assert last / 90 < spent < 1.0 or step is None
            assert row["metrics"]["of_three_stages"]["values"][seed] < spent
    for one in matrix:
        for raw, scaled in zip(
            *(one["metrics"][name]["values"] for name in ("distance", "scaled")), strict=True
        ):
            assert raw is None or scaled == pytest.approx(raw / chance_distance(one["density"]))
    assert {one["apart"] for one in probed.table("window")} <= {1, 2}
    with pytest.raises(CallError, match="search of early-bird tickets"):
        applies(SETTLING, Question(recipe=IMP, world=toy_world(), seeds=(0,)))


def test_distances_ignore_which_units_are_asked_and_see_each_flip() -> None:
    layers = EARLY_BIRD.counted(toy_world(model=Normed, thin=None))
    assert [layer.count for layer in layers] == [12, 8]
    one = tb.Mask({"0": torch.arange(12) < 6})
    other = tb.Mask({"0": torch.arange(12) < 7, "3": torch.arange(8) < 7})
    assert mask_distance(one, other, layers) == 2 / 20


def wide() -> World:
    inputs = torch.randn(300, 6, generator=stream(0, "toy", "inputs"))
    inputs, targets = nn.functional.normalize(inputs), (inputs[:, :3] - inputs[:, 3:]).argmax(1)
    return toy_world(
        model=partial(MeanField, 6, 150, 3),
        thin=None,
        train=(inputs[:180], targets[:180]),
        validation=(inputs[180:240], targets[180:240]),
        test=(inputs[240:], targets[240:]),
        objective=SquaredError(),
        optimiser=Adam(lr=0.03),
        steps=300,
    )


def test_pretraining_finds_what_selection_from_each_checkpoint_gives(tmp_path: Path) -> None:
    probe = Pretraining(steps=(0, 10, 60, 300), neurons=(3, 30), examples=180)
    world = wide()
    recipe = replace(IMP, schedule=Densities(values=(0.5,)))
    study = tb.find(recipe, world, seeds=2, store=tb.Store(tmp_path), arms=["dense", "ticket"])
    probed = tb.probe(probe, study)
    assert probed.document["checks"] == {"under_bound": True}
    rows = {(row["network"], row["step"]): row["metrics"] for row in probed.table("losses")}
    trained = study.model(arm="dense", seed=1)
    with torch.no_grad():
        targets = torch.eye(3)[world.train.targets]
        hidden = trained.hidden(world.train.inputs).relu()
        whole = hidden @ trained.output.weight.T / 150
        atoms = hidden[:, :, None] * trained.output.weight.T  # (examples, neurons, classes)
    dense = float((whole - targets).square().sum(1).mean()) / 2
    assert rows["dense", 300]["loss"]["values"][1] == pytest.approx(dense, rel=1e-4)
    total = torch.zeros_like(targets)
    for step in range(1, 4):
        errors = ((total[:, None] + atoms) / step - targets[:, None]).square().sum((0, 2))
        total = total + atoms[:, int(errors.argmin())]
        least = float(errors.min()) / (2 * len(targets))
    assert rows["3 neurons", 300]["loss"]["values"][1] == pytest.approx(least, rel=1e-4)
    assert rows["30 neurons", 0]["loss"]["mean"] < rows["dense", 0]["loss"]["mean"]
    assert rows["30 neurons", 300]["loss"]["mean"] < rows["30 neurons", 0]["loss"]["mean"]
    few, many = probed.table("thresholds")
    assert few["metrics"]["threshold_step"]["mean"] < many["metrics"]["threshold_step"]["mean"]


def test_pretraining_keeps_the_contract_and_refuses_what_it_cannot_say() -> None:
    check_probe(Pretraining(steps=(0, 20), neurons=(2, 5), examples=50), replace(wide(), steps=40))
    for wrong in ({"steps": ()}, {"steps": (5, 5)}, {"neurons": (0,)}, {"examples": 0}):
        with pytest.raises(CallError, match=r"Pretraining\("):
            Pretraining(**wrong)
    for world, message in (
        (toy_world(), "objective is CrossEntropy"),
        (toy_world(objective=SquaredError()), "two-layer network"),
    ):
        with pytest.raises(CallError, match=message):
            applies(PRETRAINING, Question(recipe=IMP, world=world, seeds=(0,)))
    late = Pretraining(steps=(0, 301))
    with pytest.raises(CallError, match=r"\[301\] are beyond"):
        applies(late, Question(recipe=IMP, world=wide(), seeds=(0,)))
