"""Early-bird tickets: each trap of the authors' code, the search against one written out."""

from collections import deque
from dataclasses import replace
from typing import Any

import pytest
import torch
from drive import drive
from torch import Tensor, nn
from toy import Normed

from tombola.errors import RecipeError, WorldError
from tombola.pieces.by_scale import ByScale, ScaledUnits
from tombola.pieces.greedy import GreedySelection
from tombola.pieces.rewind import Stay
from tombola.pieces.schedule import Densities, Target
from tombola.pieces.score import Snapshot
from tombola.pieces.settling import WhenSettled, chance_distance, mask_distance
from tombola.recipes.early_bird import EARLY_BIRD, EARLY_BIRD_RESET, search, steps_looked_at
from tombola.recipes.imp import IMP
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train
from tombola.recipes.recipe import Recipe
from tombola.testing import toy_world
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.rng import stream
from tombola.world.models import VGG, ResNet
from tombola.world.objective import CrossEntropy
from tombola.world.optimiser import SGD
from tombola.world.probe import NetworkProbe
from tombola.world.slimming import Slimming, normalisation_scales
from tombola.world.world import World, initial_params

SCALES = {"0": "1.weight", "3": "4.weight"}


def normed(**changes: Any) -> World:
    """9 steps an epoch, 12 epochs."""
    optimiser = SGD(lr=0.1, momentum=0.9)
    return toy_world(**{"model": Normed, "steps": 108, "optimiser": optimiser, **changes})


def waiting(**fields: Any) -> Recipe:
    return replace(
        EARLY_BIRD,
        rule=WhenSettled(of=ByScale(), **fields),
        schedule=Densities(values=(0.6, 0.4)),
    )


def snapshot(world: World, params: Params) -> Snapshot:
    return Snapshot(start=params, end=params, mask=FULL, layers=world.layers)


def cut_at(world: World, params: Params, density: float, rule: ByScale | None = None) -> Mask:
    target = Target(round=1, density=density)
    cut = (rule or ByScale()).cut(snapshot(world, params), NetworkProbe(world, 0), target)
    assert cut.units is not None
    return cut.units


# -- masks ---------------------------------------------------------------------------------------


def test_masks_keep_the_largest_scales_of_all_layers_and_cut_whole_units() -> None:
    world = normed()
    first, second = torch.arange(12.0) - 6.0, 0.5 + torch.arange(8.0)
    params = initial_params(world, 0).replaced({"1.weight": first, "4.weight": second})
    at = snapshot(world, params)
    cut = ByScale().cut(at, NetworkProbe(world, 0), Target(round=1, density=0.5))
    sizes = torch.cat([first, second]).abs()
    best = torch.zeros(20, dtype=torch.bool)
    best[sizes.argsort(descending=True, stable=True)[:10]] = True
    assert cut.units is not None
    assert torch.equal(torch.cat([cut.units["0"], cut.units["3"]]), best)
    assert torch.equal(cut.mask["0.weight"], best[:12, None].expand(12, 6))
    assert torch.equal(cut.mask["3.weight"], best[12:, None] & best[None, :12])
    assert torch.equal(cut.mask["6.weight"], best[None, 12:].expand(3, 8))


def test_equal_scales_at_the_start_leave_an_exact_mask_where_a_threshold_leaves_none() -> None:
    world = normed()
    params = initial_params(world, 0)
    assert all(bool((params[name] == 1.0).all()) for name in SCALES.values())
    units = cut_at(world, params, 0.5)
    assert int(units.of("0", (12,)).sum()) + int(units.of("3", (8,)).sum()) == 10
    sizes = torch.cat([params[name].abs() for name in SCALES.values()])
    assert not bool((sizes > sizes.sort().values[10]).any())  # the authors' code, on epoch 0


def test_a_threshold_for_all_layers_empties_none() -> None:
    world = normed()
    small = {"1.weight": torch.full((12,), 1e-3), "4.weight": torch.arange(8.0) + 1}
    units = cut_at(world, initial_params(world, 0).replaced(small), 0.3)
    assert (int(units["0"].sum()), int(units.of("3", (8,)).sum())) == (1, 5)
    two = cut_at(world, initial_params(world, 0).replaced(small), 0.3, ByScale(least=2))
    assert (int(two["0"].sum()), int(two["3"].sum())) == (2, 4)


def test_residual_blocks_are_cut_inside_and_their_stream_is_left_whole() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), ResNet((4, 8), 1, channels=1))

    inputs, targets = torch.randn(40, 64, generator=stream(0, "x")), torch.arange(40) % 10
    world = toy_world(
        model=model, thin=None, train=(inputs, targets), validation=None, test=(inputs, targets)
    )
    sets = ScaledUnits().sets(world.layers, lambda: world.coupling)
    assert [one.name for one in sets] == ["1.blocks.0.conv1", "1.blocks.1.conv1"]
    vgg = VGG(((4, 6), (8,)), channels=1)
    assert len(normalisation_scales(vgg)) == 3


# -- distance ------------------------------------------------------------------------------------

FLAT = (Layer(name="a", shape=(20_000,), kind="conv", rate=0.8),)


@pytest.mark.parametrize("density", [0.5, 0.9, 0.95, 0.05])
def test_masks_drawn_at_random_differ_by_chance(density: float) -> None:
    draws = [
        Mask({"a": torch.rand(20_000, generator=stream(0, "mask", n)) < density}) for n in (0, 1)
    ]
    assert mask_distance(draws[0], draws[0], FLAT) == 0.0
    assert mask_distance(*draws, FLAT) == pytest.approx(chance_distance(density), abs=0.01)


def test_densities_at_which_noise_is_within_the_threshold_are_refused() -> None:
    world = normed()
    for density in (0.95, 0.96):
        recipe = replace(EARLY_BIRD, schedule=Densities(values=(density,)))
        with pytest.raises(RecipeError, match=r"drawn at random differ by 0\.0\d+ on.*scaled=True"):
            recipe.check(world)
    replace(EARLY_BIRD, schedule=Densities(values=(0.94,))).check(world)
    scaled = WhenSettled(of=ByScale(), scaled=True)
    replace(EARLY_BIRD, rule=scaled, schedule=Densities(values=(0.95,))).check(world)
    assert not scaled.settled([chance_distance(0.95)] * 4, 0.95)  # noise
    assert WhenSettled(of=ByScale()).settled([chance_distance(0.95)] * 4, 0.95)  # would have fired
    assert scaled.settled([0.0095] * 4, 0.95) and not scaled.settled([0.0096] * 4, 0.95)


def test_it_takes_four_distances_of_five_masks_and_all_of_them() -> None:
    rule = WhenSettled(of=ByScale())
    assert rule.settled([0.1, 0.0, 0.0, 0.1], 0.5)
    assert not rule.settled([0.1, 0.0, 0.0, 0.11], 0.5)
    assert not rule.settled([0.0, 0.0, 0.0], 0.5)


# -- the search ----------------------------------------------------------------------------------


def scales_by_epoch(world: World, steps: list[int]) -> list[Tensor]:
    """|gamma| of both layers, by training written out: L1 on the scales by its sub-gradient."""
    init = Init(world, 0).run(NoDesk()).params
    slim = Slimming(of=world.objective, scales=tuple(SCALES.values()))
    found = []
    for step in steps:
        end = Train(world, 0, Point(init, None, 0), FULL, step, slim).run(NoDesk())
        params = end.params.load()
        found.append(torch.cat([params[name].abs() for name in SCALES.values()]))
    return found


def test_search_stops_at_the_step_that_the_rule_written_out_gives() -> None:
    world, recipe = normed(), waiting(threshold=0.15)
    steps = steps_looked_at(world, world.steps_per_epoch)
    assert steps[0] == 9 and len(steps) == 12  # never the initial network
    masks: dict[float, list[Tensor]] = {0.6: [], 0.4: []}
    for sizes in scales_by_epoch(world, steps):
        for density, of in masks.items():
            best = torch.zeros(20, dtype=torch.bool)
            best[sizes.argsort(descending=True, stable=True)[: round(20 * density)]] = True
            of.append(best)
    for one in drive(search(recipe, world, 0)) or ():
        queue = deque[Tensor](maxlen=5)
        expected = None
        for step, mask in zip(steps, masks[one.target.density], strict=True):
            queue.append(mask)
            away = [float((mask ^ other).float().mean()) for other in list(queue)[:-1]]
            if len(queue) == 5 and max(away) <= 0.15:
                expected = step
                break
        assert one.settled_at == expected
        assert list(one.cuts) == steps[: steps.index(one.step) + 1]


def test_weights_and_schedule_go_on_from_the_cut_or_start_over() -> None:
    world = normed()
    loose = WhenSettled(of=ByScale(), threshold=0.45, window=2)
    on = replace(EARLY_BIRD, rule=loose, schedule=Densities(values=(0.5,)))
    [turn] = drive(on.loop(on, world, 0))
    assert turn.job.begin.step == 18 and turn.job.until == 108  # the second mask
    assert turn.job.begin.slots is None
    [one] = drive(search(on, world, 0)) or ()
    assert turn.job.begin.params.digest == one.params.digest
    assert turn.spent == world.steps
    assert isinstance(turn.job.objective, Slimming)
    over = replace(EARLY_BIRD_RESET, rule=loose, schedule=Densities(values=(0.5,)))
    [again] = drive(over.loop(over, world, 0))
    assert again.job.mask.digest == turn.job.mask.digest
    assert again.job.begin.params.digest == initial_params(world, 0).digest
    assert (again.job.begin.step, again.spent) == (0, 18 + 108)


def test_what_never_settles_is_cut_at_the_end() -> None:
    world, recipe = normed(steps=27), waiting()
    for turn in drive(recipe.loop(recipe, world, 0)):
        assert (turn.job.begin.step, turn.job.steps, turn.spent) == (27, 0, 27)
    assert [one.settled_at for one in drive(search(recipe, world, 0)) or ()] == [None, None]


def test_a_network_without_normalisation_is_refused_by_name_before_anything_is_trained() -> None:
    with pytest.raises(RecipeError, match=r"'layers.0', 'layers.1'\] none is followed by one norm"):
        EARLY_BIRD.check(toy_world())


def test_fields_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"window": 1}, {"threshold": 0.0}, {"every": 0}, {"threshold": 1.0}):
        with pytest.raises(RecipeError, match=r"WhenSettled\("):
            WhenSettled(of=ByScale(), **wrong)
    with pytest.raises(RecipeError, match="changes weights"):
        WhenSettled(of=GreedySelection())
    with pytest.raises(RecipeError, match="least=0"):
        ByScale(least=0)
    few = replace(EARLY_BIRD, schedule=Densities(values=(0.05,)), rewind=Stay(retrain=0))
    with pytest.raises(RecipeError, match="keeps 1 of 20 units"):
        replace(few, rule=WhenSettled(of=ByScale(), scaled=True)).check(normed())


# -- the pull on the scales ----------------------------------------------------------------------


def test_penalty_is_the_l1_subgradient_on_scales_alone() -> None:
    network = Normed()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([1.0, -2.0, 0.0] * 4))
    params = dict(network.named_parameters())
    slim = Slimming(of=CrossEntropy(), scales=normalisation_scales(network), strength=0.25)
    penalty = slim.penalty(params)
    assert penalty is not None
    penalty.backward()
    assert network[1].weight.grad is not None
    assert network[1].weight.grad.tolist() == [0.25, -0.25, 0.0] * 4
    assert [name for name, p in params.items() if p.grad is not None] == ["1.weight", "4.weight"]


def test_a_strong_pull_shrinks_scales_and_a_pull_of_nothing_changes_nothing() -> None:
    world = normed()
    sizes = {}
    for strength in (0.0, 0.05):
        slim = Slimming(of=CrossEntropy(), scales=("1.weight", "4.weight"), strength=strength)
        one = replace(world, objective=slim)
        [dense] = drive(IMP.up_to(0).loop(IMP.up_to(0), one, 0))
        sizes[strength] = float(dense.end.params.load()["1.weight"].abs().sum())
    assert sizes[0.05] < 0.8 * sizes[0.0]
    for wrong in ({"scales": ()}, {"strength": -1.0}):
        with pytest.raises(WorldError, match="Slimming"):
            Slimming(**{"of": CrossEntropy(), "scales": ("a",), **wrong})
