"""Effective weights against a walk along the edges, and the probe that counts them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tombola as tb
from tombola.lab.probe import EFFECTIVE
from tombola.pieces.effective import effective
from tombola.pieces.schedule import Densities
from tombola.testing import check_probe, toy_world
from tombola.values.mask import FULL, Mask
from tombola.values.rng import stream
from tombola.world.probe import NetworkProbe
from tombola.world.world import World, initial_params


def some(world: World, density: float, seed: int) -> Mask:
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(seed, layer.name)) < density
            for layer in world.layers
        }
    )


def found(world: World, mask: Mask) -> dict[str, Tensor]:
    live = effective(mask, world.layers, initial_params(world, 0), NetworkProbe(world, 0))
    return {layer.name: live.of(layer.name, layer.shape) for layer in world.layers}


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_live_weights_join_units_that_inputs_reach_and_that_reach_outputs(
    density: float, seed: int
) -> None:
    world = toy_world()
    mask = some(world, density, seed)
    kept = [mask.of(layer.name, layer.shape) for layer in world.layers]
    reached = [torch.ones(6, dtype=torch.bool)]
    for weight in kept:
        reached.append((weight & reached[-1]).any(dim=1))
    reaching = [torch.ones(3, dtype=torch.bool)]
    for weight in kept[::-1]:
        reaching.insert(0, (weight & reaching[0][:, None]).any(dim=0))
    live = found(world, mask)
    for place, layer in enumerate(world.layers):
        both = reached[place] & reaching[place + 1][:, None]
        assert torch.equal(live[layer.name], kept[place] & both)


class Pooled(nn.Sequential):
    """Two convolutions of one channel in, with pooling and normalisation."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 4, 3, padding=1),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(4, 4, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12, 3),
        )


def test_a_channel_without_inputs_takes_its_outputs_along_bias_or_not() -> None:
    world = toy_world(model=Pooled)
    first = torch.ones(4, 1, 3, dtype=torch.bool)
    first[2] = False
    last = torch.ones(3, 12, dtype=torch.bool)
    last[:, 3:6] = False  # channel 1 of the second convolution
    live = found(world, Mask({"1.weight": first, "8.weight": last}))
    middle = torch.ones(4, 4, 3, dtype=torch.bool)
    middle[:, 2] = False
    middle[1] = False
    assert torch.equal(live["1.weight"], first) and torch.equal(live["8.weight"], last)
    assert torch.equal(live["5.weight"], middle)
    assert all(bool(kept.all()) for kept in found(world, FULL).values())


def test_the_probe_counts_them_for_every_arm(tmp_path_factory: pytest.TempPathFactory) -> None:
    check_probe(EFFECTIVE)
    world = toy_world(steps=20, judged_density=0.1)
    recipe = replace(tb.recipes.SNIP, schedule=Densities(values=(0.3, 0.1)))
    store = tb.Store(tmp_path_factory.mktemp("store"))
    study = tb.find(recipe, world, seeds=2, store=store, arms=["dense", "ticket", "inverted"])
    rows = tb.probe(EFFECTIVE, study).table("effective")
    by_place = {(row["arm"], row["round"]): row for row in rows}
    assert by_place["dense", 0]["metrics"]["effective"]["values"] == [1.0, 1.0]
    for seed in (0, 1):
        mask = study.mask(seed=seed)
        live = effective(mask, world.layers, initial_params(world, seed), NetworkProbe(world, seed))
        left = sum(live.kept(layer.name, layer.count) for layer in world.layers)
        said = by_place["ticket", 2]["metrics"]
        assert said["effective"]["values"][seed] == pytest.approx(left / 192)
        assert said["cut_off"]["values"][seed] == pytest.approx(1 - left / 19)
