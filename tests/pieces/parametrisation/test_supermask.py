"""Supermasks against slow twins; what edge-popup chooses among, and among how many."""

import math

import pytest
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.parametrisation import EdgePopup, Ranking, Supermask, Weights
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.train.loop import settled, train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, reseed, stream
from tombola.world.optimiser import SGD
from tombola.world.world import initial_params

WEIGHT = torch.randn(3, 4, generator=stream(0, "w"))
PARAMS = Params({"w": WEIGHT, "b": torch.ones(3)})


def keeping(count: int) -> Mask:
    return Mask({"w": (torch.arange(12) < count).reshape(3, 4)})


def start(mask: Mask, logits: Tensor | None = None, **fields: object) -> dict[str, Tensor]:
    coords = dict(Supermask(**fields).coords(PARAMS, mask, 7))  # type: ignore[arg-type]
    if logits is not None:
        coords["logits/w"] = logits.clone()
    coords["logits/w"].requires_grad_(True)
    return coords


def test_chances_start_at_the_density_asked_for() -> None:
    for count in (1, 3, 6, 11):
        chance = start(keeping(count))["logits/w"].sigmoid()
        assert chance.flatten().tolist() == pytest.approx([count / 12] * 12, rel=1e-5)


@pytest.mark.parametrize("rescaled", [True, False])
def test_a_step_uses_what_it_drew_and_its_gradient_goes_through(rescaled: bool) -> None:
    logits = torch.randn(3, 4, generator=stream(0, "logits"))
    coords, pull = start(keeping(3), logits, rescaled=rescaled), torch.arange(12.0).reshape(3, 4)
    with borrowed_generators():
        reseed(5)
        used = Supermask(rescaled=rescaled).effective(coords, keeping(3), 0)["w"]
        reseed(5)
        drawn = torch.bernoulli(logits.sigmoid()) == 1.0
    factor = 12 / int(drawn.sum()) if rescaled else 1.0
    (used * pull).sum().backward()
    gradient = coords["logits/w"].grad
    assert gradient is not None
    for row in range(3):
        for column in range(4):
            weight, p = float(WEIGHT[row, column]), 1 / (1 + math.exp(-float(logits[row, column])))
            expected = factor * weight if drawn[row, column] else 0.0
            assert used[row, column].item() == pytest.approx(expected, rel=1e-6)
            expected = factor * float(pull[row, column]) * weight * p * (1 - p)
            assert float(gradient[row, column]) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert not used[~drawn].signbit().any()


def test_draws_follow_the_chances_and_not_the_asked_count() -> None:
    logits = torch.full((3, 4), -1.0)
    logits[0] = 3.0
    coords, total = start(keeping(6), logits, rescaled=False), torch.zeros(3, 4)
    with borrowed_generators():
        reseed(0)
        for _ in range(2_000):
            total += (Supermask(rescaled=False).effective(coords, keeping(6), 0)["w"] != 0).float()
    share = total / 2_000  # sd under .0105
    assert share[0].tolist() == pytest.approx([0.9526] * 4, abs=0.03)
    assert share[1:].flatten().tolist() == pytest.approx([0.2689] * 8, abs=0.05)


def test_the_finished_network_uses_exactly_the_likeliest_and_rescales_them() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 2.0], [-1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, -5.0]])
    coords = start(keeping(3), logits)
    final, mask = Supermask().settle(Params(coords), keeping(3))
    places = [5, 1, 2]  # ties at 2 go to the lower index
    assert [i for i in range(12) if mask["w"].reshape(-1)[i]] == sorted(places)
    expected = torch.where(mask["w"], WEIGHT * 4.0, 0.0)
    assert final["w"].equal(expected)
    assert final.keys() == {"w", "b"}
    assert not final["w"][~mask["w"]].signbit().any()
    with torch.no_grad():
        assert Supermask().effective(coords, keeping(3), 0)["w"].equal(final["w"])


def test_training_moves_chances_alone_and_measures_the_finished_network() -> None:
    world = toy_world(optimiser=SGD(lr=20.0, momentum=0.9), steps=40)
    half = {
        layer.name: torch.arange(layer.count).reshape(layer.shape) % 2 == 0
        for layer in world.layers
    }
    job = Training(
        world=world,
        seed=1,
        params=initial_params(world, 1),
        mask=Mask(half),
        step=0,
        until=40,
        objective=world.objective,
        parametrisation=Supermask(),
    )
    before = Supermask().coords(job.params, job.mask, 1)
    end = train(job)
    moved = {name for name in before if not end.coords[name].equal(before[name])}
    assert moved == {f"logits/{layer.name}" for layer in world.layers}
    final, mask = settled(job, end) or (None, None)
    assert final is not None and mask is not None
    assert [mask.kept(la.name, la.count) for la in world.layers] == [36, 48, 12]
    assert evaluate(world.network(final), world, world.validation) == end.readings[-1].metrics


def test_a_mask_that_cuts_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="no chance to train"):
        Supermask().coords(PARAMS, FULL, 0)


# -- what is chosen among -------------------------------------------------------------------------


def test_weights_that_are_not_trained() -> None:
    big = Params({"w": torch.randn(50, 40, generator=stream(0, "big"))})
    mask = Mask({"w": torch.arange(2_000).reshape(50, 40) < 600})
    found = {weights: EdgePopup(weights=weights).coords(big, mask, 3)["w"] for weights in Weights}
    deviation = math.sqrt(2 / 40)
    assert found[Weights.AS_IS].equal(big["w"])
    assert found[Weights.CONSTANT].unique().tolist() == pytest.approx([deviation])
    signed = found[Weights.SIGNED_CONSTANT]
    assert signed.equal(big["w"].sign() * deviation)
    assert float(found[Weights.KAIMING].std()) == pytest.approx(deviation, rel=0.06)
    assert found[Weights.KAIMING].unique().numel() > 1_900


@pytest.mark.parametrize("weights", list(Weights))
def test_scaling_divides_the_variance_by_the_fraction_kept(weights: Weights) -> None:
    """Not by the fraction cut, as in the authors' code: at .3 the two differ by 7 / 3."""
    big = Params({"w": torch.randn(50, 40, generator=stream(0, "big"))})
    mask = Mask({"w": torch.arange(2_000).reshape(50, 40) < 600})
    plain, scaled = (
        EdgePopup(weights=weights, scaled=one).coords(big, mask, 3)["w"] for one in (False, True)
    )
    torch.testing.assert_close(scaled, plain * math.sqrt(1 / 0.3))


def test_scores_ranked_together_share_out_the_places() -> None:
    popup = EdgePopup(ranking=Ranking.TOGETHER)
    mask = Mask({"v": torch.arange(4) < 3, "w": torch.arange(6) < 1})
    coords = {
        "v": torch.full((4,), 2.0),
        "w": torch.full((6,), -1.0),
        "scores/v": torch.tensor([0.1, -0.9, 0.2, 0.3]),
        "scores/w": torch.tensor([0.8, 0.3, 0.0, -0.7, 0.05, 0.1]),
    }
    # Of ten the four largest |s|: .9, .8, .7 and, of the two of .3, that of the earlier tensor.
    final, found = popup.settle(Params(coords), mask)
    assert found["v"].tolist() == [False, True, False, True]
    assert found["w"].tolist() == [True, False, False, True, False, False]
    assert final["w"].tolist() == [-1.0, 0.0, 0.0, -1.0, 0.0, 0.0]
    used = popup.effective(coords, mask, 0)
    assert used["v"].equal(final["v"]) and used["w"].equal(final["w"])
    assert popup.redistributes
    assert not EdgePopup().redistributes
