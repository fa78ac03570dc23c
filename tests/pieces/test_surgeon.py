"""Optimal Brain Surgeon against exact refits, brute-force inverses and finite differences."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from drive import drive
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.rewind import Stay
from tombola.pieces.rule import ByScore, Rule
from tombola.pieces.schedule import Densities, Target
from tombola.pieces.score import Magnitude, Need, Snapshot
from tombola.pieces.setting import Setting
from tombola.pieces.surgeon import OptimalBrainSurgeon, increase, surgeon
from tombola.recipes.recipe import Recipe, iterate
from tombola.train.evaluate import evaluate
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.models import LeNet
from tombola.world.optimiser import Adam
from tombola.world.world import World


def draw(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


# -- the core: linear regression, where the quadratic model is exact --------------------------

N = 30


def regression() -> tuple[Tensor, Tensor]:
    """80 examples with correlated inputs."""
    inputs = draw("inputs", 80, N) @ (torch.eye(N).double() + 0.3 * draw("mixing", N, N))
    return inputs, inputs @ draw("truth", N) + 0.5 * draw("noise", 80)


def squared_error(weights: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    return (inputs @ weights - targets).square().mean() / 2


def refit(places: list[int], inputs: Tensor, targets: Tensor) -> Tensor:
    """The best weights with only these places in use."""
    best = torch.zeros(N, dtype=torch.float64)
    best[places] = torch.linalg.lstsq(inputs[:, places], targets[:, None]).solution[:, 0]
    return best


def test_increase_is_the_exact_rise_of_the_loss_after_refitting_the_others() -> None:
    inputs, targets = regression()
    weights = refit(list(range(N)), inputs, targets)
    rise = increase(weights, torch.linalg.inv(inputs.T @ inputs / 80))
    before = squared_error(weights, inputs, targets)
    for q in range(N):
        others = refit([i for i in range(N) if i != q], inputs, targets)
        exact = squared_error(others, inputs, targets) - before
        assert float(rise[q]) == pytest.approx(float(exact), abs=1e-8)


def test_compensated_weights_are_the_exact_optimum_of_the_greedy_choice() -> None:
    inputs, targets = regression()
    weights = refit(list(range(N)), inputs, targets)
    inverse = torch.linalg.inv(inputs.T @ inputs / 80)
    group = torch.zeros(N, dtype=torch.int64)
    places = list(range(N))
    for keep in range(N - 1, 14, -1):
        losses = {
            q: float(
                squared_error(
                    refit([i for i in places if i != q], inputs, targets), inputs, targets
                )
            )
            for q in places
        }
        places.remove(min(losses, key=losses.__getitem__))
        found, kept = surgeon(weights, inverse, group, [keep])
        assert kept.nonzero().squeeze(1).tolist() == places
        torch.testing.assert_close(found, refit(places, inputs, targets), rtol=0, atol=1e-8)


def slow_surgeon(weights: Tensor, hessian: Tensor, group: Tensor, keep: list[int]) -> Tensor:
    """Each step with the inverse of the Hessian of what is left, computed anew."""
    weights, left = weights.clone(), list(range(len(weights)))
    while True:
        inverse = torch.linalg.inv(hessian[left][:, left])
        rise = {}
        for place, q in enumerate(left):
            if sum(int(group[i] == group[q]) for i in left) > keep[int(group[q])]:
                rise[place] = float(weights[q]) ** 2 / (2 * float(inverse[place, place]))
        if not rise:
            return weights
        place = min(rise, key=rise.__getitem__)
        factor = weights[left[place]] / inverse[place, place]
        weights[left] -= factor * inverse[:, place]
        weights[left.pop(place)] = 0.0


@pytest.mark.parametrize("keep", [[2, 7, 5], [8, 0, 3], [8, 8, 8]])
def test_quotas_equal_the_twin_that_inverts_at_every_step(keep: list[int]) -> None:
    root = draw("root", 40, 24)
    hessian = root.T @ root / 40
    weights, group = draw("weights", 24), torch.arange(24) % 3
    expected = slow_surgeon(weights, hessian, group, keep)
    found, kept = surgeon(weights, torch.linalg.inv(hessian), group, keep)
    assert torch.bincount(group[kept], minlength=3).tolist() == keep
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(found != 0, kept)


def test_of_equal_weights_the_lower_index_stays() -> None:
    group = torch.zeros(4, dtype=torch.int64)
    _, kept = surgeon(torch.tensor([1.0, -1.0, 1.0, 3.0]), torch.eye(4), group, [2])
    assert kept.tolist() == [True, False, False, True]


def test_core_leaves_its_arguments_alone_and_cut_weights_are_positive_zero() -> None:
    weights, inverse = -torch.ones(3), torch.eye(3) + 0.1
    found, kept = surgeon(weights, inverse, torch.zeros(3, dtype=torch.int64), [1])
    assert torch.equal(weights, -torch.ones(3)) and torch.equal(inverse, torch.eye(3) + 0.1)
    assert not bool(found[~kept].signbit().any()) and not bool(found[~kept].any())


# -- the rule: a softmax network, its Hessian by finite differences ---------------------------

LAYERS = (
    Layer(name="first", shape=(4, 3), kind="linear", rate=0.8),
    Layer(name="last", shape=(3, 4), kind="output", rate=0.9),
)
EXAMPLES, DAMPING = 7, 1e-2


class TinyProbe:
    """A 3-4-3 network with tanh, float64."""

    def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        inputs = draw("examples", count * size, 3).split(size)
        targets = (torch.arange(count * size) % 3).split(size)
        return list(zip(inputs, targets, strict=True))

    def loss(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return F.cross_entropy(self.outputs(params, batch), batch[1])

    def loss_at(self, outputs: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(outputs, batch[1])

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return (batch[0] @ params["first"].T + params["bias"]).tanh() @ params["last"].T

    def stream(self, *names: object) -> torch.Generator:
        return stream(0, *names)


def snapshot(mask: Mask = FULL) -> Snapshot:
    params = Params(
        {"first": draw("first", 4, 3), "bias": draw("bias", 4), "last": draw("last", 3, 4)}
    )
    return Snapshot(start=params, end=mask.apply(params), mask=mask, layers=LAYERS)


def flat(at: Snapshot) -> Tensor:
    return torch.cat([at.end[layer.name].flatten() for layer in at.layers])


def outputs_with(at: Snapshot, weights: Tensor, example: Any) -> Tensor:
    parts = weights.split([layer.count for layer in at.layers])
    named = {
        layer.name: part.reshape(layer.shape) for layer, part in zip(at.layers, parts, strict=True)
    }
    return TinyProbe().outputs({**at.end, **named}, example)[0]


def slow_hessian(at: Snapshot) -> Tensor:
    """sum over examples and pairs of classes, derivatives by central differences."""
    weights, h = flat(at), 1e-6
    total = torch.zeros(24, 24, dtype=torch.float64)
    for example in TinyProbe().batches(EXAMPLES, 1):
        slopes = torch.stack(
            [
                (
                    outputs_with(at, weights + h * one, example)
                    - outputs_with(at, weights - h * one, example)
                )
                / (2 * h)
                for one in torch.eye(24, dtype=torch.float64)
            ]
        )
        share = outputs_with(at, weights, example).softmax(0)
        for c in range(3):
            for d in range(3):
                curvature = float(share[c] * (int(c == d) - share[d]))
                total += curvature * torch.outer(slopes[:, c], slopes[:, d]) / EXAMPLES
    return total


PRIOR = Mask({"first": torch.arange(12).reshape(4, 3) % 4 != 1})


@pytest.mark.parametrize("prior", [FULL, PRIOR], ids=["full", "cut before"])
@pytest.mark.parametrize("counts", [None, {"first": 5, "last": 7}], ids=["together", "by tensor"])
def test_cut_is_the_core_on_the_damped_gauss_newton_matrix(
    prior: Mask, counts: dict[str, int] | None
) -> None:
    at = snapshot(prior)
    there = torch.cat([prior.of(layer.name, layer.shape).flatten() for layer in LAYERS])
    hessian = (slow_hessian(at) + DAMPING * torch.eye(24))[there][:, there]
    group = torch.zeros(24) if counts is None else (torch.arange(24) >= 12)
    keep = [12] if counts is None else [5, 7]
    expected = torch.zeros(24, dtype=torch.float64)
    expected[there] = slow_surgeon(flat(at)[there], hessian, group.long()[there], keep)

    rule = OptimalBrainSurgeon(examples=EXAMPLES, damping=DAMPING)
    cut = rule.cut(at, TinyProbe(), Target(round=1, density=0.5, counts=counts))
    assert cut.params is not None
    found = torch.cat([cut.params[layer.name].flatten() for layer in LAYERS])
    kept = torch.cat([cut.mask.of(layer.name, layer.shape).flatten() for layer in LAYERS])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert torch.equal(kept, expected != 0)
    assert cut.mask <= prior


def test_cut_honours_counts_and_leaves_everything_else_as_it_was() -> None:
    at, rule = snapshot(), OptimalBrainSurgeon(examples=EXAMPLES)
    before = at.end.rehash()
    target = Target(round=1, density=0.5, counts={"first": 3, "last": 9})
    cut = rule.cut(at, TinyProbe(), target)
    assert rule.asks(LAYERS, target) == {"first": 3, "last": 9}
    assert (cut.mask.kept("first", 12), cut.mask.kept("last", 12)) == (3, 9)
    assert cut.params is not None and torch.equal(cut.params["bias"], at.end["bias"])
    assert cut.mask.apply(cut.params).digest == cut.params.digest
    assert at.end.rehash() == before


def test_density_alone_asks_for_a_joint_total_rounded_half_up() -> None:
    rule = OptimalBrainSurgeon(examples=EXAMPLES)
    target = Target(round=1, density=0.4375)  # of 24: 10.5
    assert rule.asks(LAYERS, target) == 11
    mask = rule.cut(snapshot(), TinyProbe(), target).mask
    assert mask.kept("first", 12) + mask.kept("last", 12) == 11


def test_towards_infinite_damping_the_order_is_that_of_the_magnitudes() -> None:
    at, target = snapshot(), Target(round=1, density=0.5)
    cut = OptimalBrainSurgeon(examples=EXAMPLES, damping=1e9).cut(at, TinyProbe(), target)
    by_size = ByScore(score=Magnitude()).cut(at, TinyProbe(), target)
    assert cut.mask.digest == by_size.mask.digest


class Regression(TinyProbe):
    """Squared error of a linear model, one number out."""

    def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        inputs, targets = regression()
        return list(zip(inputs.split(size), targets.split(size), strict=True))[:count]

    def loss_at(self, outputs: Tensor, batch: Any) -> Tensor:
        return (outputs[:, 0] - batch[1]).square().mean() / 2

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return batch[0] @ params["w"].T


@pytest.mark.parametrize("keep", [1, 11, 29])
def test_of_a_linear_regression_the_rule_leaves_the_exact_optimum_of_the_rest(keep: int) -> None:
    inputs, targets = regression()
    params = Params({"w": refit(list(range(N)), inputs, targets)[None]})
    layers = (Layer(name="w", shape=(1, N), kind="output", rate=0.9),)
    at = Snapshot(start=params, end=params, mask=FULL, layers=layers)
    rule = OptimalBrainSurgeon(examples=80, damping=1e-12)
    cut = rule.cut(at, Regression(), Target(round=1, density=keep / N))
    assert cut.params is not None
    places = cut.mask["w"][0].nonzero().squeeze(1).tolist()
    assert len(places) == keep
    best = refit(places, inputs, targets)
    torch.testing.assert_close(cut.params["w"][0], best, rtol=0, atol=1e-7)


# -- what it refuses --------------------------------------------------------------------------


def setting(**changes: Any) -> Setting:
    facts = {
        "layers": LAYERS,
        "targets": (),
        "examples": 1_000,
        "steps": 10,
        "objective": "CrossEntropy",
        "outputs": 3,
    }
    return Setting(**facts | changes)


def test_refuses_too_few_examples_and_a_loss_that_is_not_one_of_outputs() -> None:
    assert "there are 999" in str(OptimalBrainSurgeon().refuses(setting(examples=999)))
    reason = str(OptimalBrainSurgeon().refuses(setting(objective="MyLoss", outputs=None)))
    assert "a loss of one tensor of outputs" in reason and "MyLoss" in reason
    assert "WoodFisher" in reason


def test_refuses_more_weights_than_its_limit_and_says_what_to_do() -> None:
    assert OptimalBrainSurgeon(limit=24).refuses(setting()) is None
    wide = (Layer(name="wide", shape=(784, 300), kind="linear", rate=0.8),)
    assert OptimalBrainSurgeon().refuses(setting(layers=wide)) == (
        "OptimalBrainSurgeon inverts the Hessian of all 235,200 weights in scope at once: 1,659.6 "
        "GB of memory, and its limit is 5,000 weights. Take a form that scales, `woodfisher` "
        "(WoodFisher) or `layerwise` (LayerwiseLeastSquares); a smaller network (the world "
        "`digits-small` has one); leave tensors out by the recipe's scope; or raise `limit`."
    )
    assert OptimalBrainSurgeon(limit=23).refuses(setting()) is not None


def test_refuses_to_keep_more_than_is_left() -> None:
    with pytest.raises(RecipeError, match=r"keeps \[22\] weights, only \[21\] are left"):
        OptimalBrainSurgeon(examples=EXAMPLES).cut(
            snapshot(PRIOR), TinyProbe(), Target(round=1, density=22 / 24)
        )


def test_refuses_a_hessian_without_an_inverse() -> None:
    with pytest.raises(RecipeError, match="has no inverse in float64"):
        OptimalBrainSurgeon(examples=1, damping=1e-300).cut(
            snapshot(), TinyProbe(), Target(round=1, density=0.5)
        )


@pytest.mark.parametrize("wrong", [{"examples": 0}, {"damping": 0.0}, {"damping": float("nan")}])
def test_refuses_fields_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="OptimalBrainSurgeon"):
        OptimalBrainSurgeon(**wrong)


def test_needs_training_and_examples() -> None:
    assert OptimalBrainSurgeon().needs == {Need.TRAINED, Need.BATCHES, Need.OUTPUTS}


# -- a trained network ------------------------------------------------------------------------


def test_costs_a_trained_network_far_less_than_cutting_by_magnitude() -> None:
    targets = torch.arange(200) % 3
    inputs = (2 * draw("centres", 3, 8)[targets] + draw("spread", 200, 8)).float()
    world = World(
        model=lambda: LeNet(8, 10, 3),
        train=(inputs[:160], targets[:160]),
        test=(inputs[160:], targets[160:]),
        steps=150,
        batch_size=20,
        optimiser=Adam(lr=1e-2),
    )

    def rise(rule: Rule) -> float:
        recipe = Recipe(
            name="cut",
            source="none",
            loop=iterate,
            rule=rule,
            rewind=Stay(),
            schedule=Densities(values=(0.4,)),
        )
        dense, cut = drive(recipe.loop(recipe, world, 0))
        assert sum(cut.end.kept.values()) == 44
        before, after = (
            evaluate(world.network(one.end.params.load()), world, world.train)["loss"]
            for one in (dense, cut)
        )
        return after - before

    surgery = OptimalBrainSurgeon(examples=140)
    assert rise(surgery) < 0.25 * rise(ByScore(score=Magnitude()))
