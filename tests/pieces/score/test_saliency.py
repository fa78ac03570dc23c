"""Saliency against finite differences of a mask, and against one weight at a time."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import Need, Saliency, Snapshot
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream

LAYERS = (
    Layer(name="first", shape=(4, 3), kind="linear", rate=0.8),
    Layer(name="last", shape=(2, 4), kind="output", rate=0.9),
)


class TinyProbe:
    """A 3-4-2 network with tanh, float64; 12 examples."""

    def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        inputs = torch.randn(12, 3, generator=stream(0, "inputs"), dtype=torch.float64)
        targets = torch.arange(12) % 2
        picked = (slice(i * size, (i + 1) * size) for i in range(count))
        return [(inputs[part], targets[part]) for part in picked]

    def loss(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return F.cross_entropy(self.outputs(params, batch), batch[1])

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return (batch[0] @ params["first"].T + params["bias"]).tanh() @ params["last"].T

    def stream(self, *names: object) -> torch.Generator:
        return stream(0, *names)


def snapshot(mask: Mask = FULL) -> Snapshot:
    def draw(name: str, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=stream(1, name), dtype=torch.float64)

    params = Params(
        {"first": draw("first", 4, 3), "bias": draw("bias", 4), "last": draw("last", 2, 4)}
    )
    return Snapshot(start=params, end=mask.apply(params), mask=mask, layers=LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_score_is_the_slope_of_the_loss_in_the_mask_entry(layer: Layer) -> None:
    at, probe, h = snapshot(), TinyProbe(), 1e-6
    [batch] = probe.batches(1, 12)
    score = Saliency(batch_size=12)(at, probe)[layer.name]

    def loss(mask: Tensor) -> float:
        return float(probe.loss({**at.end, layer.name: at.end[layer.name] * mask}, batch))

    full = torch.ones(layer.shape, dtype=torch.float64)
    for place in range(layer.count):
        less = full.clone()
        less.view(-1)[place] -= h
        assert abs(loss(less) - loss(full)) / h == pytest.approx(
            float(score.view(-1)[place]), rel=1e-3, abs=1e-7
        )


def test_score_equals_one_weight_at_a_time_over_two_batches() -> None:
    at, probe = snapshot(), TinyProbe()
    scores = Saliency(batches=2, batch_size=5)(at, probe)
    assert set(scores) == {"first", "last"}
    for layer in LAYERS:
        for place in range(layer.count):
            moved = torch.zeros((), dtype=torch.float64, requires_grad=True)
            one = torch.zeros(layer.count, dtype=torch.float64)
            one[place] = 1.0
            weights = at.end[layer.name] + moved * one.reshape(layer.shape)
            slope = 0.0
            for batch in probe.batches(2, 5):
                loss = probe.loss({**at.end, layer.name: weights}, batch)
                slope += float(torch.autograd.grad(loss, moved, retain_graph=True)[0])
            expected = abs(slope * float(at.end[layer.name].view(-1)[place]))
            assert float(scores[layer.name].view(-1)[place]) == pytest.approx(expected, rel=1e-12)


def test_cut_keeps_exactly_what_is_asked_under_ties_and_only_from_the_prior_mask() -> None:
    prior = Mask({"first": torch.arange(12).reshape(4, 3) % 2 == 0})
    at, rule = snapshot(prior), ByScore(score=Saliency(batch_size=12))
    target = Target(round=1, density=0.5)
    kept = rule.cut(at, TinyProbe(), target).mask
    assert kept.kept("first", 12) + kept.kept("last", 8) == 10
    assert kept <= prior

    silent = Snapshot(
        start=at.start,
        end=at.end.replaced({"last": torch.zeros(2, 4).double()}),
        mask=prior,
        layers=LAYERS,
    )  # every score is 0
    tied = rule.cut(silent, TinyProbe(), target).mask
    assert torch.equal(tied.of("first", (4, 3)), prior["first"])
    assert tied["last"].flatten().tolist() == [True] * 4 + [False] * 4


def test_a_weight_cut_before_scores_zero_and_arguments_are_left_alone() -> None:
    prior = Mask({"last": torch.tensor([[True, False] * 2] * 2)})
    at = snapshot(prior)
    before = at.end.rehash()
    scores = Saliency(batch_size=12)(at, TinyProbe())
    assert torch.equal(scores["last"] == 0.0, ~prior["last"])
    assert at.end.rehash() == before
    assert not any(score.requires_grad for score in scores.values())
    assert not any(tensor.requires_grad for tensor in at.end.values())


def test_a_tensor_the_loss_does_not_depend_on_scores_zero() -> None:
    spare = Layer(name="spare", shape=(2,), kind="linear", rate=0.8)
    at = snapshot()
    wider = Snapshot(
        start=at.start,
        end=at.end.replaced({"spare": torch.ones(2)}),
        mask=FULL,
        layers=(*LAYERS, spare),
    )
    assert Saliency(batch_size=12)(wider, TinyProbe())["spare"].tolist() == [0.0, 0.0]


def test_needs_examples_and_nothing_trained() -> None:
    assert Saliency().needs == {Need.BATCHES}


@pytest.mark.parametrize("wrong", [{"batches": 0}, {"batch_size": 0}])
def test_wants_at_least_one_example(wrong: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="at least one batch of at least one example"):
        Saliency(**wrong)
