"""The rule against building every candidate network, and what it refuses."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from drive import drive
from torch import Tensor, nn

from tombola.errors import RecipeError
from tombola.pieces.allocation import ERK, Global
from tombola.pieces.by_units import ByUnits
from tombola.pieces.greedy import Aim, GreedySelection
from tombola.pieces.rule import Cut
from tombola.pieces.schedule import Target
from tombola.pieces.score import Magnitude, Snapshot
from tombola.recipes.greedy import GREEDY, GREEDY_RETRAINED
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.values.mask import FULL
from tombola.values.params import Params
from tombola.world.models import MeanField
from tombola.world.numerics import Numerics
from tombola.world.objective import SquaredError
from tombola.world.optimiser import Adam
from tombola.world.probe import NetworkProbe
from tombola.world.world import World, initial_params

DOUBLE = Numerics(dtype="float64")


class Convs(nn.Sequential):
    """Two convolutions with normalisation, flattened into a linear layer: sets of 4 and 5."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 2, 3)),
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(30, 3),
        )


def wide(**changes: object) -> World:
    model = changes.pop("model", lambda: MeanField(6, 12, 3))
    return toy_world(**{"model": model, "objective": SquaredError(), **changes})


def cut_of(world: World, rule: GreedySelection, density: float) -> tuple[Params, Cut]:
    params = initial_params(world, 0)
    at = Snapshot(start=params, end=params, mask=FULL, layers=world.layers)
    return params, rule.cut(at, NetworkProbe(world, 0), Target(round=1, density=density))


def batch_of(world: World) -> Tensor:
    """The examples that a rule with 50 examples sees."""
    (batch,) = NetworkProbe(world, 0).batches(1, 50)
    return batch.inputs


def before(network: nn.Sequential, name: str, inputs: Tensor) -> Tensor:
    """What the layer at a place says, on what the network feeds it."""
    for layer in list(network)[: int(name) + 1]:
        inputs = layer(inputs)
    return inputs


def slow_greedy(
    outputs: list[Tensor], bias: Tensor, aim: Tensor, asked: int, most: int
) -> list[int]:
    """outputs: of a layer with one unit alone, N times as strong. Tries all at every step."""
    order: list[int] = []
    while len(set(order)) < asked and len(order) < most:
        errors = []
        for u in range(len(outputs)):
            mean = torch.stack([outputs[i] for i in (*order, u)]).mean(0)
            errors.append(float((mean + bias - aim).square().sum()))
        order.append(errors.index(min(errors)))
    return order


@pytest.mark.parametrize("aim", list(Aim))
def test_neurons_equal_the_twin_that_runs_every_network(aim: Aim) -> None:
    world = wide(numerics=DOUBLE)
    rule = GreedySelection(aim=aim, examples=50)
    params, cut = cut_of(world, rule, 0.4)  # 5 of 12
    (batch,) = NetworkProbe(world, 0).batches(1, 50)
    network = world.network(params).eval()
    with torch.no_grad():
        dense = network(batch.inputs)
        target = dense if aim is Aim.OUTPUTS else torch.eye(3).double()[batch.targets]
        outputs = []
        for i in range(12):
            alone = torch.zeros(12).double()
            alone[i] = 12.0
            weight = params["output.weight"] * alone
            outputs.append(world.network(params.replaced({"output.weight": weight}))(batch.inputs))
    order = slow_greedy(outputs, torch.zeros(3).double(), target, 5, 20)
    counts = torch.bincount(torch.tensor(order), minlength=12).double()
    assert cut.params is not None and cut.units is not None
    expected = params["output.weight"] * (12 * counts / len(order))
    torch.testing.assert_close(cut.params["output.weight"], expected, rtol=1e-12, atol=0)
    kept = cut.units["hidden"]
    assert int(kept.sum()) == 5 and bool(kept[counts > 0].all())
    assert torch.equal(cut.mask["hidden.weight"], kept[:, None].expand(12, 6))
    with torch.no_grad():  # the network is the mean of what was taken
        found = world.network(cut.params).eval()(batch.inputs)
    torch.testing.assert_close(found, torch.stack([outputs[i] for i in order]).mean(0))


def test_channels_are_built_layer_by_layer_each_on_what_the_cut_ones_feed_it() -> None:
    world = toy_world(model=Convs, numerics=DOUBLE)
    params, cut = cut_of(world, GreedySelection(examples=50), 0.6)  # 2 of 4, 3 of 5
    assert cut.params is not None and cut.units is not None
    inputs, dense, now = batch_of(world), world.network(params).eval(), params
    for maker, reader, units in (("1", "4", 4), ("4", "7", 5)):
        weight, outputs = f"{reader}.weight", []
        columns = params[weight].reshape(params[weight].shape[0], units, -1)
        bias = params[f"{reader}.bias"]
        shape = (1, -1, *([1] * (2 if reader == "4" else 0)))
        with torch.no_grad():
            aim = before(dense, reader, inputs)
            for u in range(units):
                alone = torch.zeros_like(columns)
                alone[:, u] = units * columns[:, u]
                changed = now.replaced({weight: alone.reshape(params[weight].shape)})
                said = before(world.network(changed).eval(), reader, inputs)
                outputs.append(said - bias.reshape(shape))
        asked = int(cut.units[maker].sum())
        assert asked == {"1": 2, "4": 3}[maker]
        order = slow_greedy(outputs, bias.reshape(shape), aim, asked, 4 * asked)
        counts = torch.bincount(torch.tensor(order), minlength=units).double()
        factors = (units * counts / len(order)).reshape(1, units, 1)
        expected = (columns * factors).reshape(params[weight].shape)
        applied = cut.mask.apply(now.replaced({weight: expected}))
        torch.testing.assert_close(cut.params[weight], applied[weight])
        now = now.replaced({weight: expected})


def test_places_that_repetition_leaves_are_filled_at_weight_zero() -> None:
    """One neuron does it all: it is taken again and again, and the rest idles."""
    world = wide()
    params = initial_params(world, 0)
    hidden, output = params["hidden.weight"].clone(), params["output.weight"].clone()
    output[:, 1:] = 0.0
    output[:, 0] = torch.tensor([1.0, -2.0, 3.0])
    start = params.replaced({"hidden.weight": hidden, "output.weight": output})
    at = Snapshot(start=start, end=start, mask=FULL, layers=world.layers)
    rule = GreedySelection(examples=50, patience=3)
    cut = rule.cut(at, NetworkProbe(world, 0), Target(round=1, density=0.5))
    assert cut.units is not None and cut.params is not None
    assert int(cut.units["hidden"].sum()) == 6 and bool(cut.units["hidden"][0])
    share = cut.params["output.weight"][0, 0] / output[0, 0]
    assert float(share) == pytest.approx(12 * round(float(share) * 18 / 12) / 18)
    assert 0.5 < float(share) < 1.5  # nearly the network's own 1, which 12 / 12 would be


def test_a_second_round_starts_from_what_the_first_left() -> None:
    recipe = replace(GREEDY, rule=GreedySelection(examples=50))
    world = wide()
    params, first = cut_of(world, recipe.rule, 0.5)
    assert first.params is not None
    again = Snapshot(start=params, end=first.params, mask=first.mask, layers=world.layers)
    second = recipe.rule.cut(again, NetworkProbe(world, 0), Target(round=2, density=0.25))
    assert second.mask <= first.mask and second.units is not None
    assert int(second.units["hidden"].sum()) == 3
    with pytest.raises(RecipeError, match="keeps 12 units of 'hidden', only 6 are left"):
        recipe.rule.cut(again, NetworkProbe(world, 0), Target(round=2, density=1.0))


def test_without_repetition_every_unit_counts_once() -> None:
    world = wide()
    params, cut = cut_of(world, GreedySelection(examples=50, repetition=False), 0.5)
    assert cut.params is not None and cut.units is not None
    kept = cut.units["hidden"]
    torch.testing.assert_close(
        cut.params["output.weight"][:, kept], 2 * params["output.weight"][:, kept]
    )


def test_recipe_cuts_beats_magnitude_and_trains_on() -> None:
    model = partial(MeanField, 6, 100, 3)
    world = wide(model=model, steps=400, optimiser=Adam(lr=0.05), judged_density=0.2)
    rule = GreedySelection(examples=150)
    dense, cut = drive(GREEDY.loop(replace(GREEDY, rule=rule), world, 0))
    assert cut.job.steps == 0 and dense.end.metrics["test_accuracy"] > 0.8
    by_size = drive(GREEDY.loop(replace(GREEDY, rule=ByUnits(score=Magnitude())), world, 0))[-1]
    assert cut.end.metrics["test_loss"] < 0.8 * by_size.end.metrics["test_loss"]
    found = evaluate(world.network(cut.end.params.load()), world, world.test)
    assert found["loss"] == cut.end.metrics["test_loss"]
    again = drive(GREEDY_RETRAINED.loop(replace(GREEDY_RETRAINED, rule=rule), world, 0))[-1]
    assert again.job.steps == 400
    assert again.end.metrics["test_loss"] < cut.end.metrics["test_loss"]


@pytest.mark.parametrize(
    ("rule", "world", "message"),
    [
        (GreedySelection(examples=181), wide(), "there are 180"),
        (GreedySelection(allocation=Global(), examples=50), wide(), "Global does not say how many"),
        (GreedySelection(aim=Aim.LABELS, examples=50), toy_world(), "objective is CrossEntropy"),
        (
            GreedySelection(aim=Aim.LABELS, examples=50),
            toy_world(objective=SquaredError()),
            "here are 2",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_trained(
    rule: GreedySelection, world: World, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(GREEDY, rule=rule).check(world)


def test_grouped_convolutions_and_odd_fields_are_refused() -> None:
    for wrong in ({"examples": 0}, {"rows": 1.5}, {"patience": True}, {"aim": "labels"}):
        with pytest.raises(RecipeError, match=r"GreedySelection\("):
            GreedySelection(**wrong)
    with pytest.raises(RecipeError, match="allocation"):
        GreedySelection(allocation=3)  # type: ignore[arg-type]
    _ = GreedySelection(allocation=ERK())
