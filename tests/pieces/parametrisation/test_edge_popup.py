"""Edge-popup: its gradient against slow twins, its counts, and what stays frozen in training."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tombola.train.loop as loop
from tombola.errors import RecipeError
from tombola.pieces.parametrisation.edge_popup import EdgePopup, Weights
from tombola.train.evaluate import evaluate
from tombola.train.leg import Leg
from tombola.train.loop import settled, train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.models import LeNet
from tombola.world.optimiser import SGD
from tombola.world.world import World, initial_params

POPUP = EdgePopup()


def keeping(count: int, *shape: int) -> Mask:
    """A mask of one tensor `w` that keeps the first `count` of its weights."""
    return Mask({"w": (torch.arange(math.prod(shape)) < count).reshape(shape)})


def normal(name: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=stream(0, name))


def start(count: int = 5, popup: EdgePopup = POPUP) -> tuple[dict[str, Tensor], Mask]:
    """Coordinates for w (3, 4) and b (3,), scores ready to be trained, and the mask."""
    mask = keeping(count, 3, 4)
    coords = dict(popup.coords(Params({"w": normal("w", 3, 4), "b": normal("b", 3)}), mask, 7))
    coords["scores/w"].requires_grad_(True)
    return coords, mask


def chosen_twin(scores: list[float], count: int) -> list[bool]:
    order = sorted(range(len(scores)), key=lambda i: (-abs(scores[i]), i))
    return [i in order[:count] for i in range(len(scores))]


@pytest.mark.parametrize("count", range(12))
def test_exactly_the_largest_scores_are_used(count: int) -> None:
    coords, mask = start(count)
    used = POPUP.effective(coords, mask, 0)["w"].detach().reshape(-1)
    weight = coords["w"].reshape(-1)
    expected = chosen_twin(coords["scores/w"].reshape(-1).tolist(), count)
    assert [bool(value) for value in used] == expected
    assert used[expected].equal(weight[expected])
    assert not used.signbit()[~torch.tensor(expected)].any()


@pytest.mark.parametrize("count", [0, 1, 4, 6, 9, 11])
def test_equal_scores_go_to_the_lower_index(count: int) -> None:
    coords, mask = start(count)
    scores = [0.5, -0.5, 0.0, 0.5, 0.1, 0.0, -0.1, 0.5, 0.5, 0.0, -0.5, 0.0]
    coords["scores/w"] = torch.tensor(scores).reshape(3, 4)
    used = POPUP.effective(coords, mask, 0)["w"].reshape(-1)
    assert [bool(value) for value in used] == chosen_twin(scores, count)


@pytest.mark.parametrize("weights", Weights)
def test_the_gradient_of_a_score_at_every_place(weights: Weights) -> None:
    coords, mask = start(popup=EdgePopup(weights=weights))
    scores = coords["scores/w"]
    inputs = normal("inputs", 6, 4)

    def loss(weight: Tensor) -> Tensor:
        return (inputs @ weight.T + coords["b"]).tanh().square().sum()

    loss(POPUP.effective(coords, mask, 0)["w"]).backward()
    kept = torch.tensor(chosen_twin(scores.reshape(-1).tolist(), 5)).reshape(3, 4)
    used = (coords["w"] * kept).requires_grad_(True)
    loss(used).backward()
    assert scores.grad is not None and used.grad is not None
    for row in range(3):
        for column in range(4):
            sign = 1.0 if scores[row, column] > 0 else -1.0
            expected = used.grad[row, column] * coords["w"][row, column] * sign
            assert scores.grad[row, column].item() == pytest.approx(expected.item(), rel=1e-6)
    assert scores.grad[~kept].abs().min() > 0
    assert coords["w"].grad is None and coords["b"].grad is None


def test_weights_become_signed_constants_and_nothing_else_changes() -> None:
    params = Params({"w": normal("w", 4, 3, 2, 2), "b": normal("b", 4), "v": normal("v", 2, 4)})
    coords = POPUP.coords(params, keeping(20, 4, 3, 2, 2), 0)
    assert coords.keys() == {"w", "b", "v", "scores/w"}
    assert coords["w"].abs().unique().tolist() == pytest.approx([math.sqrt(2 / 12)])
    assert coords["w"].sign().equal(params["w"].sign())
    assert coords["b"].equal(params["b"]) and coords["v"].equal(params["v"])
    as_is = EdgePopup(weights=Weights.AS_IS).coords(params, keeping(20, 4, 3, 2, 2), 0)
    assert as_is["w"].equal(params["w"]) and as_is["scores/w"].equal(coords["scores/w"])


def test_scores_are_uniform_within_their_bounds_and_keyed_by_seed_and_name() -> None:
    weight, mask = normal("w", 100, 25), keeping(9, 100, 25).of("w", (100, 25))
    both = Mask({"w": mask, "v": mask})
    first, again, other = (
        POPUP.coords(Params({"w": weight, "v": weight}), both, seed) for seed in (0, 0, 1)
    )
    scores = first["scores/w"]
    assert scores.abs().max() <= 1 / 5
    assert torch.histc(scores, 10, -0.2, 0.2).min() > 200  # 250 expected, sd 15
    assert first.digest == again.digest
    assert not scores.equal(other["scores/w"])
    assert not scores.equal(first["scores/v"])


def test_only_scores_are_trained() -> None:
    assert POPUP.trained(frozenset({"w", "b", "scores/w"})) == {"scores/w"}


def test_the_finished_network_has_the_chosen_weights_and_no_scores() -> None:
    coords, mask = start()
    coords["scores/w"].requires_grad_(False)
    params, found = POPUP.settle(Params(coords), mask)
    expected = chosen_twin(coords["scores/w"].reshape(-1).tolist(), 5)
    assert found["w"].reshape(-1).tolist() == expected
    assert params.keys() == {"w", "b"}
    assert params["w"].equal(POPUP.effective(coords, mask, 0)["w"])
    assert not params["w"][~found["w"]].signbit().any()
    assert params["b"].equal(coords["b"])


def test_a_mask_that_cuts_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="no score to train"):
        POPUP.coords(Params({"w": normal("w", 3, 4)}), FULL, 0)


# -- inside the training loop --------------------------------------------------------------------

W0, W1 = "layers.0.weight", "layers.1.weight"


class Normed(nn.Module):
    """A network with normalisation, whose statistics move in training and whose scale may not."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 3)])
        self.norm = nn.BatchNorm1d(8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers[1](self.norm(self.layers[0](inputs)).relu())


def plain() -> LeNet:
    return LeNet(6, 8, 3)


def small_training(model: Callable[[], nn.Module] = plain, momentum: float = 0.9) -> Training:
    inputs = torch.randn(90, 6, generator=stream(0, "inputs"))
    targets = inputs[:, :3].argmax(dim=1)
    world = World(
        model=model,
        train=(inputs[:60], targets[:60]),
        evaluate_every=5,
        validation=(inputs[60:75], targets[60:75]),
        test=(inputs[75:], targets[75:]),
        steps=20,
        batch_size=10,
        optimiser=SGD(lr=0.1, momentum=momentum),
    )
    half = {W0: torch.arange(48).reshape(8, 6) % 2 == 0, W1: torch.arange(24).reshape(3, 8) < 7}
    return Training(
        world=world,
        seed=3,
        params=initial_params(world, 3),
        mask=Mask(half),
        step=0,
        until=world.steps,
        objective=world.objective,
        parametrisation=POPUP,
    )


def legs(training: Training, monkeypatch: pytest.MonkeyPatch) -> list[Leg]:
    """The state after every step."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    kept: list[Leg] = []
    end = train(training, keep=kept.append)
    return [*kept, end]


@pytest.mark.parametrize("model", [plain, Normed])
def test_training_moves_the_scores_and_nothing_else(model: Callable[[], nn.Module]) -> None:
    training = small_training(model)
    before = POPUP.coords(training.params, training.mask, training.seed)
    after = train(training)
    moved = {name for name in before if not after.coords[name].equal(before[name])}
    statistics = {name for name in before if name.startswith("norm.") and "_" in name}
    assert moved == {f"scores/{W0}", f"scores/{W1}"} | statistics
    assert {key.partition("/")[2] for key in after.slots} == {f"scores/{W0}", f"scores/{W1}"}
    assert after.checks["rewind_exact"] and after.checks["optimiser_fresh"]


def test_scores_of_unused_weights_are_trained_too() -> None:
    training = small_training(momentum=0.0)
    before = POPUP.coords(training.params, training.mask, training.seed)
    used = POPUP.effective(before, training.mask, 0)
    after = train(replace(training, until=1)).coords
    moved = after[f"scores/{W1}"] != before[f"scores/{W1}"]
    assert moved[used[W1] == 0].float().mean() > 0.5  # the others have a dead unit as their input


def test_as_many_weights_as_the_mask_keeps_are_used_after_every_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = small_training()
    masks = [POPUP.settle(leg.coords, leg.mask)[1] for leg in legs(training, monkeypatch)]
    assert {(mask.kept(W0, 48), mask.kept(W1, 24)) for mask in masks} == {(24, 7)}
    assert len({mask.digest for mask in masks}) > 1


def test_what_is_measured_in_training_is_the_finished_network() -> None:
    training = small_training()
    end = train(training)
    finished = settled(training, end)
    assert finished is not None
    network = training.world.network(finished[0])
    metrics = evaluate(network, training.world, training.world.validation)
    assert metrics == end.readings[-1].metrics


@pytest.mark.parametrize("model", [plain, Normed])
def test_a_resumed_training_ends_the_same(
    model: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = small_training(model)
    states = legs(training, monkeypatch)
    for state in (states[0], states[6], states[12]):
        end = train(training, resume=state)
        assert end.coords.digest == states[-1].coords.digest
        assert end.slots.digest == states[-1].slots.digest
        assert (end.readings, end.exposure) == (states[-1].readings, states[-1].exposure)


def test_a_tensor_with_nothing_cut_is_used_whole() -> None:
    training = small_training()
    partly = replace(training, mask=Mask({W0: training.mask[W0]}))
    params, mask = settled(partly, train(partly)) or (None, None)
    assert mask is not None and params is not None
    assert mask.names == (W0,)
    assert params[W1].equal(training.params[W1])
