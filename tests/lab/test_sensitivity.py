"""The scan of layers against one written out, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch.nn.functional as F

import tombola as tb
from tombola.errors import CallError
from tombola.lab.probe import SENSITIVITY, Sensitivity
from tombola.testing import check_probe, check_recipe, toy_world


def test_the_scan_is_the_loss_with_one_layer_cut(tmp_path: Path) -> None:
    world = toy_world(steps=40, judged_density=0.5)
    store = tb.Store(tmp_path)
    study = tb.find(tb.recipes.IMP, world, seeds=2, store=store, arms=["dense", "ticket"])
    probed = tb.probe(Sensitivity(densities=(0.5, 0.125)), study)
    assert probed.document["cost"]["steps_trained"] == 0
    rows = {(row["tensor"], row["density"]): row for row in probed.table("sensitivity")}
    assert len(rows) == 6
    inputs, targets = world.validation.inputs, world.validation.targets
    for seed in (0, 1):
        trained = study.params(arm="dense", seed=seed)

        def loss(name: str, left: int, trained: tb.Params = trained) -> tuple[float, float]:
            weights = trained[name].clone()
            order = weights.abs().flatten().argsort(descending=True, stable=True)
            weights.view(-1)[order[left:]] = 0.0
            raw = world.network(trained.replaced({name: weights}))(inputs).detach()
            right = (raw.argmax(1) == targets).float().mean()
            return float(F.cross_entropy(raw, targets)), float(right)

        for layer in world.layers:
            whole = loss(layer.name, layer.count)
            for density in (0.5, 0.125):
                row = rows[layer.name, density]
                assert row["kept"] == layer.count * density
                cut = loss(layer.name, row["kept"])
                for place, name in enumerate(("loss_change", "accuracy_change")):
                    said = row["metrics"][name]["values"][seed]
                    assert said == pytest.approx(cut[place] - whole[place], rel=1e-4, abs=1e-5)
    scan = tb.BySensitivity.of(probed.table("sensitivity"))
    assert set(scan.curves) == {layer.name for layer in world.layers}
    scanned = replace(
        tb.recipes.ONESHOT,
        rule=tb.ByScore(score=tb.Magnitude(), allocation=scan),
        schedule=tb.Densities(values=(0.5,)),
    )
    check_recipe(scanned, world)
    hurt = rows["layers.0.weight", 0.125]["metrics"]["loss_change"]["values"]
    assert min(hurt) > 0.1


def test_it_keeps_the_contract_and_refuses_what_cannot_be_meant() -> None:
    check_probe(SENSITIVITY)
    for wrong in ({"densities": ()}, {"densities": (1.0,)}, {"densities": (0.0,)}, {"examples": 0}):
        with pytest.raises(CallError, match=r"Sensitivity\("):
            Sensitivity(**wrong)
