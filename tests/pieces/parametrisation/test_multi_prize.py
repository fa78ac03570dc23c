"""Multi-prize tickets: signs and gains against slow twins; where they are edge-popup."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tombola.pieces.parametrisation import EdgePopup, MultiPrize, Ranking, Weights
from tombola.pieces.parametrisation.multi_prize import signed
from tombola.recipes.edge_popup import EDGE_POPUP, MULTI_PRIZE
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.train.loop import settled, train
from tombola.train.training import Training
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.optimiser import SGD
from tombola.world.world import initial_params

KAIMING = MultiPrize(search=EdgePopup(weights=Weights.KAIMING))


def normal(name: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=stream(0, name))


def start(prize: MultiPrize = KAIMING, count: int = 5) -> tuple[dict[str, Tensor], Mask]:
    """Coordinates for w (3, 4) and b (3,), scores ready to be trained, and the mask."""
    mask = Mask({"w": (torch.arange(12) < count).reshape(3, 4)})
    coords = dict(prize.coords(Params({"w": normal("w", 3, 4), "b": normal("b", 3)}), mask, 7))
    coords["scores/w"].requires_grad_(True)
    return coords, mask


@pytest.mark.parametrize("count", range(12))
def test_chosen_weights_are_their_signs_times_their_mean_size(count: int) -> None:
    coords, mask = start(count=count)
    weights, scores = coords["w"].flatten().tolist(), coords["scores/w"].flatten().tolist()
    order = sorted(range(12), key=lambda i: (-abs(scores[i]), i))[:count]
    gain = sum(abs(weights[i]) for i in order) / max(1, count)
    used = KAIMING.effective(coords, mask, 0)["w"].detach().flatten()
    for i in range(12):
        expected = math.copysign(gain, weights[i]) if i in order else 0.0
        assert used[i].item() == pytest.approx(expected, rel=1e-6)
    assert not used[[i for i in range(12) if i not in order]].signbit().any()
    assert used.abs().unique().numel() <= 2


def test_the_gain_is_the_least_squares_scale_of_the_signs() -> None:
    coords, mask = start()
    used = KAIMING.effective(coords, mask, 0)["w"].detach()
    chosen = torch.where(used != 0, coords["w"], 0.0)
    least = (chosen - used).square().sum()
    for factor in (0.99, 1.01):
        assert (chosen - factor * used).square().sum() > least


@pytest.mark.parametrize(("count", "kept"), [(100, 29), (100, 57)])
def test_the_gain_divides_by_the_weights_in_use(count: int, kept: int) -> None:
    """The authors divide by int(k n), 28 of 100 at .29, while n - int((1 - k) n) are in use."""
    density = kept / count
    assert (int(density * count), count - int((1 - density) * count)) == (kept - 1, kept)
    ones = torch.full((1, count), 0.7)
    used = signed(ones, (torch.arange(count) < kept)[None, :])
    assert used[0, :kept].equal(ones[0, :kept])


def test_a_weight_of_zero_is_positive_and_is_not_dropped() -> None:
    weight = torch.tensor([0.0, -0.0, -3.0])
    assert torch.sign(weight)[:2].tolist() == [0.0, 0.0]  # what it would be multiplied by
    assert signed(weight, torch.ones(3, dtype=torch.bool)).tolist() == [1.0, 1.0, -1.0]
    assert signed(weight, torch.zeros(3, dtype=torch.bool)).tolist() == [0.0, 0.0, 0.0]


def test_the_gradient_of_a_score_at_every_place() -> None:
    coords, mask = start()
    scores, inputs = coords["scores/w"], normal("inputs", 6, 4)

    def loss(weight: Tensor) -> Tensor:
        return (inputs @ weight.T + coords["b"]).tanh().square().sum()

    loss(KAIMING.effective(coords, mask, 0)["w"]).backward()
    used = KAIMING.effective(coords, mask, 0)["w"].detach().requires_grad_(True)
    loss(used).backward()
    assert scores.grad is not None and used.grad is not None
    for row in range(3):
        for column in range(4):
            sign = 1.0 if scores[row, column] > 0 else -1.0
            expected = used.grad[row, column] * coords["w"][row, column] * sign
            assert scores.grad[row, column].item() == pytest.approx(expected.item(), rel=1e-6)
    assert scores.grad[used == 0].abs().min() > 0
    assert coords["w"].grad is None and coords["b"].grad is None


def test_the_finished_network_is_what_was_computed_with() -> None:
    coords, mask = start()
    coords["scores/w"].requires_grad_(False)
    params, found = KAIMING.settle(Params(coords), mask)
    assert params["w"].equal(KAIMING.effective(coords, mask, 0)["w"])
    assert params.keys() == {"w", "b"} and params["b"].equal(coords["b"])
    assert (params["w"] != 0).equal(found["w"]) and int(found["w"].sum()) == 5


# -- inside the training loop --------------------------------------------------------------------


def training(prize: MultiPrize | EdgePopup) -> Training:
    world = toy_world(optimiser=SGD(lr=0.5, momentum=0.9, weight_decay=1e-4), steps=40)
    half = {la.name: (torch.arange(la.count) % 2 == 0).reshape(la.shape) for la in world.layers}
    return Training(
        world=world,
        seed=1,
        params=initial_params(world, 1),
        mask=Mask(half),
        step=0,
        until=40,
        objective=world.objective,
        parametrisation=prize,
    )


@pytest.mark.parametrize("ranking", list(Ranking))
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("weights", [Weights.SIGNED_CONSTANT, Weights.CONSTANT])
def test_with_weights_of_one_size_it_is_edge_popup_bit_for_bit(
    weights: Weights, scaled: bool, ranking: Ranking
) -> None:
    popup = EdgePopup(weights=weights, scaled=scaled, ranking=ranking)
    one, other = training(popup), training(MultiPrize(search=popup))
    ends = [train(one), train(other)]
    assert ends[0].coords.digest == ends[1].coords.digest
    assert ends[0].readings == ends[1].readings
    found, twin = (settled(job, end) for job, end in zip((one, other), ends, strict=True))
    assert found is not None and twin is not None
    assert (found[0].digest, found[1].digest) == (twin[0].digest, twin[1].digest)


def test_with_drawn_weights_it_is_another_network() -> None:
    popup = EdgePopup(weights=Weights.KAIMING)
    masks = [settled(job, train(job)) for job in (training(popup), training(KAIMING))]
    assert masks[0] is not None and masks[1] is not None
    assert masks[0][0].digest != masks[1][0].digest


def test_what_is_measured_in_training_is_the_finished_network() -> None:
    job = training(KAIMING)
    end = train(job)
    final, mask = settled(job, end) or (None, None)
    assert final is not None and mask is not None
    assert evaluate(job.world.network(final), job.world, job.world.validation) == (
        end.readings[-1].metrics
    )
    assert [mask.kept(la.name, la.count) for la in job.world.layers] == [36, 48, 12]
    for name, kept in mask.items():
        assert final[name][kept].abs().unique().numel() == 1


def test_the_recipe_is_edge_popups_but_for_what_it_computes_with() -> None:
    assert (
        replace(
            EDGE_POPUP,
            name="multi-prize",
            source=MULTI_PRIZE.source,
            schedule=MULTI_PRIZE.schedule,
            parametrisation=MultiPrize(search=EdgePopup(weights=Weights.KAIMING, scaled=True)),
        )
        == MULTI_PRIZE
    )
