"""Curvature and the scores made of it, against second differences and one example at a time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.errors import RecipeError
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import OBD, DiagonalFisher, Need, Score, Snapshot
from tombola.pieces.score.curvature import by_tensor, flat, gauss_newton, gauss_newton_diagonal
from tombola.pieces.score.gradient import hessian_vector
from tombola.pieces.setting import Setting
from tombola.pieces.stepwise import Stepwise
from tombola.testing import toy_world
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.probe import NetworkProbe
from tombola.world.world import initial_params

LAYERS = (
    Layer(name="first", shape=(4, 3), kind="linear", rate=0.8),
    Layer(name="last", shape=(3, 4), kind="output", rate=0.9),
)
CUT = Mask({"first": torch.arange(12).reshape(4, 3) % 4 != 1})
EXAMPLES = 9


def draw(*shape: int, of: str) -> Tensor:
    return torch.randn(*shape, generator=stream(11, of), dtype=torch.float64)


class TinyProbe:
    """A 3-4-3 network with ReLU, float64; nine examples."""

    calls = 0

    def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        inputs, targets = draw(EXAMPLES, 3, of="inputs"), torch.arange(EXAMPLES) % 3
        picked = (slice(i * size, (i + 1) * size) for i in range(count))
        return [(inputs[part], targets[part]) for part in picked]

    def loss(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return self.loss_at(self.outputs(params, batch), batch)

    def loss_at(self, outputs: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(outputs, batch[1])

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        self.calls += 1
        return (batch[0] @ params["first"].T + params["bias"]).relu() @ params["last"].T

    def stream(self, *names: object) -> torch.Generator:
        return stream(0, *names)


class Bowl(TinyProbe):
    """Squared error of a linear model with two outputs: exactly quadratic."""

    def loss_at(self, outputs: Tensor, batch: Any) -> Tensor:
        return (outputs - draw(2, of="target")).square().sum(1).mean()

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return batch[0] @ params["w"].T


PROBE = TinyProbe()


def snapshot(mask: Mask = FULL) -> Snapshot:
    shapes = {"first": (4, 3), "bias": (4,), "last": (3, 4)}
    params = Params({name: draw(*shape, of=name) for name, shape in shapes.items()})
    return Snapshot(start=params, end=mask.apply(params), mask=mask, layers=LAYERS)


def mean_loss(at: Snapshot, weights: Tensor, probe: TinyProbe = PROBE) -> Tensor:
    [batch] = probe.batches(1, EXAMPLES)
    return probe.loss({**at.end, **by_tensor(weights, at.layers)}, batch)


def gradient(at: Snapshot, weights: Tensor) -> Tensor:
    weights = weights.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mean_loss(at, weights), weights)
    return slope


def product(at: Snapshot, vector: Tensor) -> Tensor:
    weights = flat(at.end, LAYERS).requires_grad_()
    (slope,) = torch.autograd.grad(mean_loss(at, weights), weights, create_graph=True)
    return hessian_vector((slope,), (weights,), (vector,))[0]


# -- products with the Hessian ---------------------------------------------------------------------


@pytest.mark.parametrize("mask", [FULL, CUT], ids=["whole", "cut"])
def test_hessian_vector_is_the_difference_of_two_gradients(mask: Mask) -> None:
    at, h = snapshot(mask), 1e-6
    weights = flat(at.end, LAYERS)
    for number in range(5):
        vector = draw(24, of=f"vector {number}")
        ahead, behind = (gradient(at, weights + s * h * vector) for s in (1, -1))
        torch.testing.assert_close(
            product(at, vector), (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8
        )


def test_hessian_vector_is_symmetric_and_zero_where_nothing_curves() -> None:
    at, one, two = snapshot(), draw(24, of="one"), draw(24, of="two")
    assert float(product(at, one) @ two) == pytest.approx(float(product(at, two) @ one), rel=1e-12)
    straight = torch.ones(3, requires_grad=True)
    (constant,) = torch.autograd.grad((2 * straight).sum(), straight, create_graph=True)
    assert hessian_vector((constant,), (straight,), (torch.ones(3),))[0].tolist() == [0.0] * 3


# -- Optimal Brain Damage --------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [FULL, CUT], ids=["whole", "cut"])
def test_obd_has_the_diagonal_of_the_hessian_itself_where_units_are_relu(mask: Mask) -> None:
    at = snapshot(mask)
    found = gauss_newton_diagonal(at, PROBE, EXAMPLES)
    for place, one in enumerate(torch.eye(24, dtype=torch.float64)):
        exact = float(product(at, one)[place])
        assert float(found[place]) == pytest.approx(exact, rel=1e-9, abs=1e-14)


def test_the_diagonal_is_that_of_the_whole_matrix() -> None:
    at = snapshot(CUT)
    whole = gauss_newton(at, PROBE, EXAMPLES, torch.ones(24, dtype=torch.bool))
    torch.testing.assert_close(gauss_newton_diagonal(at, PROBE, EXAMPLES), whole.diagonal())


def test_obd_is_the_rise_of_a_quadratic_loss_at_its_minimum() -> None:
    """The paper's own quantity: cut one weight, move no other."""
    probe, layer = Bowl(), Layer(name="w", shape=(2, 3), kind="output", rate=0.9)
    [(inputs, _)] = probe.batches(1, EXAMPLES)
    target = draw(2, of="target").expand(EXAMPLES, 2)
    best = torch.linalg.lstsq(inputs, target).solution.T.contiguous()
    params = Params({"w": best})
    at = Snapshot(start=params, end=params, mask=FULL, layers=(layer,))
    scores = OBD(examples=EXAMPLES)(at, probe)["w"].flatten()
    before = mean_loss(at, best.flatten(), probe)
    for place in range(6):
        without = best.flatten().clone()
        without[place] = 0.0
        rise = mean_loss(at, without, probe) - before
        assert float(scores[place]) == pytest.approx(float(rise), rel=1e-9)


def test_obd_is_the_second_order_term_of_any_loss() -> None:
    """Shrinking a weight by a share s of it changes the loss by -s g w + s^2 h w^2 / 2 + .."""
    at, s = snapshot(), 1e-3
    scores, weights = flat(OBD(examples=EXAMPLES)(at, PROBE), LAYERS), flat(at.end, LAYERS)
    for place in range(24):
        step = torch.zeros(24, dtype=torch.float64)
        step[place] = s * weights[place]
        ends = mean_loss(at, weights + step) + mean_loss(at, weights - step)
        second = (ends - 2 * mean_loss(at, weights)) / (2 * s**2)
        assert float(scores[place]) == pytest.approx(float(second), rel=1e-3, abs=1e-7)


# -- Fisher ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [FULL, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize(("count", "size"), [(9, 1), (4, 1), (3, 3)])
def test_diagonal_fisher_squares_one_gradient_at_a_time(mask: Mask, count: int, size: int) -> None:
    at, total = snapshot(mask), torch.zeros(24, dtype=torch.float64)
    for batch in PROBE.batches(count, size):
        weights = flat(at.end, LAYERS).requires_grad_()
        loss = PROBE.loss({**at.end, **by_tensor(weights, LAYERS)}, batch)
        total += torch.autograd.grad(loss, weights)[0].square() / count
    found = flat(DiagonalFisher(gradients=count, batch_size=size)(at, PROBE), LAYERS)
    torch.testing.assert_close(
        found, total * flat(at.end, LAYERS).square() / 2, rtol=1e-12, atol=0.0
    )


def test_the_square_of_a_batch_is_not_the_mean_of_squares() -> None:
    """A trap of codes that square what a mini-batch left in `.grad`."""
    at = snapshot()
    one, batch = (
        flat(DiagonalFisher(gradients=9 // size, batch_size=size)(at, PROBE), LAYERS)
        for size in (1, 9)
    )
    assert float(batch.sum()) < 0.5 * float(one.sum())
    assert bool((batch <= one * (1 + 1e-12)).all())


def test_where_every_example_is_fitted_the_empirical_fisher_vanishes() -> None:
    """With labels that the network is sure of, scores are next to nothing beside any damping."""

    class Fitted(TinyProbe):
        def loss_at(self, outputs: Tensor, batch: Any) -> Tensor:
            return F.cross_entropy(outputs, outputs.detach().argmax(1))

    at = snapshot()
    sure = replace(at, end=at.end.replaced({"last": 1_000 * at.end["last"]}))
    slopes = [
        float(flat(DiagonalFisher(gradients=EXAMPLES)(now, Fitted()), LAYERS).sum())
        for now in (at, sure)
    ]
    assert slopes[0] > 1e-2 and slopes[1] < 1e-9


# -- what both share -------------------------------------------------------------------------------


def unstable() -> nn.Sequential:
    """Batch normalisation and dropout before a linear layer."""
    return nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)
    )


@pytest.mark.parametrize("score", [OBD(examples=20), DiagonalFisher(gradients=20)], ids=str)
def test_in_inference_mode_whatever_the_network_does_in_training(score: Score) -> None:
    world = toy_world(model=unstable)
    start = initial_params(world, 0)
    at = Snapshot(start=start, end=start, mask=FULL, layers=world.layers)
    found = score(at, NetworkProbe(world, 0))
    network = world.network(start).eval()
    first = network[0].weight.detach().clone()
    total = torch.zeros(15)
    for batch in NetworkProbe(world, 0).batches(20, 1):
        if isinstance(score, DiagonalFisher):
            network.zero_grad()
            F.cross_entropy(network(batch.inputs), batch.targets).backward()
            total += network[4].weight.grad.flatten().square() / 20
        else:
            share = network(batch.inputs).detach().softmax(1)[0]
            hidden = network[:4](batch.inputs).detach()[0]
            total += torch.outer(share * (1 - share), hidden.square()).flatten() / 20
    expected = total * network[4].weight.detach().flatten().square() / 2
    torch.testing.assert_close(found["4.weight"].flatten().float(), expected, rtol=1e-4, atol=1e-9)
    assert torch.equal(first, network[0].weight.detach())


def test_a_step_at_a_time_scores_what_is_left() -> None:
    at, target = snapshot(), Target(round=1, density=0.25)
    found = Stepwise(score=OBD(examples=EXAMPLES), steps=3).cut(at, PROBE, target).mask
    mask = FULL
    for count in (15, 10, 6):  # 24 (6 / 24)^(i / 3)
        now = replace(at, mask=mask, end=mask.apply(at.end))
        mask = (
            ByScore(score=OBD(examples=EXAMPLES))
            .cut(now, PROBE, Target(round=1, density=count / 24))
            .mask
        )
    assert found.digest == mask.digest


def test_they_run_the_network_no_more_often_than_they_must() -> None:
    for score in (OBD(examples=5), DiagonalFisher(gradients=5)):
        probe = TinyProbe()
        score(snapshot(), probe)
        assert probe.calls == 5


def test_what_they_need_is_said_before_anything_is_trained() -> None:
    facts: dict[str, Any] = {"layers": LAYERS, "targets": (), "steps": 10, "objective": "Own"}
    obd, fisher = ByScore(score=OBD()), ByScore(score=DiagonalFisher())
    assert obd.needs == {Need.TRAINED, Need.BATCHES, Need.OUTPUTS}
    assert fisher.needs == {Need.TRAINED, Need.BATCHES}
    assert "there are 255" in str(obd.refuses(Setting(**facts, examples=255, outputs=3)))
    assert "there are 999" in str(fisher.refuses(Setting(**facts, examples=999)))
    reason = str(Stepwise(score=OBD()).refuses(Setting(**facts, examples=1_000)))
    assert "OBD needs a loss of one tensor of outputs" in reason and "Own" in reason
    assert fisher.refuses(Setting(**facts, examples=1_000)) is None
    for wrong in ({"gradients": 0}, {"batch_size": 0}, {"gradients": 2.5}):
        with pytest.raises(RecipeError, match=r"DiagonalFisher\(gradients=.*at least one gradient"):
            DiagonalFisher(**wrong)
    with pytest.raises(RecipeError, match=r"OBD\(examples=0\): want at least one"):
        OBD(examples=0)
