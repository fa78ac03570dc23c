"""The criteria of Zhou et al. 2019, each against its definition in plain Python."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tombola.pieces.allocation import Global
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import (
    Both,
    BySign,
    Gradient,
    Magnitude,
    MagnitudeIncrease,
    Movement,
    Need,
    Random,
    Reversed,
    Saliency,
    Score,
    Sign,
    Snapshot,
    When,
)
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream

# Exact in binary, with ties; places 1 and 4 of `a` and 0 of `b` change their sign.
INITIAL = [0.5, -0.25, 1.0, -0.5, 0.125, 0.75, -0.625, 0.25]
FINAL = [0.375, 0.25, 1.125, -1.0, -0.0625, 0.0625, -0.625, 0.75]
OTHER = ([0.25, -0.125, 3.0], [-0.375, -0.125, 2.0])
LAYERS = (
    Layer(name="a", shape=(2, 4), kind="linear", rate=0.8),
    Layer(name="b", shape=(3,), kind="output", rate=0.9),
)


def snapshot(mask: Mask = FULL) -> Snapshot:
    start = Params({"a": torch.tensor(INITIAL).reshape(2, 4), "b": torch.tensor(OTHER[0])})
    end = Params({"a": torch.tensor(FINAL).reshape(2, 4), "b": torch.tensor(OTHER[1])})
    return Snapshot(start=start, end=mask.apply(end), mask=mask, layers=LAYERS)


class NoProbe:
    """Neither data nor draws."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


def scored(score: Score, at: Snapshot) -> list[float]:
    return score(at, NoProbe())["a"].flatten().tolist()


def order(scores: list[float]) -> list[int]:
    """Places from the highest score down, ties to the lower index."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))


def kept(score: Score, count: int, at: Snapshot) -> list[int]:
    target = Target(round=1, density=0.5, counts={"a": count, "b": 0})
    mask = ByScore(score=score).cut(at, NoProbe(), target).mask
    return mask.of("a", (2, 4)).flatten().nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("score", "definition"),
    [
        (Magnitude(), lambda i, f: abs(f)),
        (Magnitude(when=When.START), lambda i, f: abs(i)),
        (Reversed(of=Magnitude()), lambda i, f: -abs(f)),
        (Reversed(of=Magnitude(when=When.START)), lambda i, f: -abs(i)),
        (MagnitudeIncrease(), lambda i, f: abs(f) - abs(i)),
        (Movement(), lambda i, f: abs(f - i)),
    ],
    ids=["large-final", "large-init", "small-final", "small-init", "increase", "movement"],
)
def test_criterion_is_its_formula(
    score: Score, definition: Callable[[float, float], float]
) -> None:
    expected = [definition(i, f) for i, f in zip(INITIAL, FINAL, strict=True)]
    assert scored(score, snapshot()) == expected
    for count in range(9):
        assert kept(score, count, snapshot()) == sorted(order(expected)[:count])


def quantiles(scores: list[float], among: list[int]) -> dict[int, float]:
    """For each place, the share of places whose score is not larger."""
    return {j: sum(scores[k] <= scores[j] for k in among) / len(among) for j in among}


@pytest.mark.parametrize("sign", [1, -1], ids=["large", "small"])
@pytest.mark.parametrize("among", [list(range(8)), [0, 1, 3, 4, 6]], ids=["all", "some"])
def test_both_keeps_what_passes_the_same_quantile_in_both(sign: int, among: list[int]) -> None:
    prior = Mask({"a": torch.tensor([j in among for j in range(8)]).reshape(2, 4)})
    at = snapshot(prior)
    initial, final = Magnitude(when=When.START), Magnitude()
    score = (
        Both(first=initial, second=final)
        if sign == 1
        else Both(first=Reversed(of=initial), second=Reversed(of=final))
    )
    one, other = (quantiles([sign * abs(w) for w in ws], among) for ws in (INITIAL, FINAL))
    assert [scored(score, at)[j] for j in among] == [min(one[j], other[j]) for j in among]
    for count in range(1, len(among) + 1):
        found = kept(score, count, at)
        passed = [  # as the authors search: the quantile at which so many pass in both
            [j for j in among if one[j] > q and other[j] > q] for q in (*one.values(), 0.0)
        ]
        assert len(found) == count and set(found) <= set(among)
        assert all(set(p) <= set(found) for p in passed if len(p) <= count)


@pytest.mark.parametrize("of", [Magnitude(), MagnitudeIncrease()], ids=str)
@pytest.mark.parametrize("sign", Sign)
def test_weights_with_the_sign_come_first_in_the_order_of_the_score(of: Score, sign: Sign) -> None:
    plain = scored(of, snapshot())
    same = [i * f > 0 for i, f in zip(INITIAL, FINAL, strict=True)]
    first = same if sign is Sign.SAME else [not s for s in same]
    expected = sorted(range(8), key=lambda j: (not first[j], -plain[j], j))
    assert order(scored(BySign(of=of, sign=sign), snapshot())) == expected
    assert min(plain) < 0 or isinstance(of, Magnitude)


def test_zero_has_a_sign_of_its_own() -> None:
    layer = Layer(name="w", shape=(4,), kind="linear", rate=0.8)
    start, end = torch.tensor([0.0, 0.0, 1.0, -1.0]), torch.tensor([0.0, 2.0, 0.0, -0.1])
    at = Snapshot(start=Params({"w": start}), end=Params({"w": end}), mask=FULL, layers=(layer,))
    ranks = BySign(of=Magnitude())(at, NoProbe())["w"]
    assert (ranks >= 4).tolist() == [True, False, False, True]


def test_signs_go_before_scores_also_where_tensors_compete() -> None:
    score = BySign(of=Magnitude(), sign=Sign.DIFFERENT)
    target = Target(round=1, density=4 / 11)
    mask = ByScore(score=score, allocation=Global()).cut(snapshot(), NoProbe(), target).mask
    # The three that changed, then the largest of all others.
    assert mask["a"].flatten().nonzero().flatten().tolist() == [1, 4]
    assert mask["b"].tolist() == [True, False, True]


def test_needs_are_those_of_the_parts() -> None:
    trained, initial = Magnitude(), Magnitude(when=When.START)
    assert (trained.needs, initial.needs) == ({Need.TRAINED}, frozenset())
    assert Reversed(of=initial).needs == frozenset()
    assert Both(first=initial, second=trained).needs == {Need.TRAINED}
    assert BySign(of=Saliency()).needs == {Need.TRAINED, Need.BATCHES}
    assert MagnitudeIncrease.needs == Movement.needs == {Need.TRAINED}
    assert Gradient.needs == {Need.BATCHES}


@pytest.mark.parametrize(
    "score",
    [
        Reversed(of=Saliency(batch_size=60)),
        BySign(of=Gradient(batch_size=60)),
        Both(first=Random(), second=Gradient(batches=2, batch_size=30)),
    ],
    ids=str,
)
def test_a_world_with_too_few_examples_is_refused_whatever_wraps_the_score(score: Score) -> None:
    setting = Setting(layers=LAYERS, targets=(), examples=59, steps=10, objective="CrossEntropy")
    reason = ByScore(score=score).refuses(setting)
    assert reason is not None and "wants 60 training examples, there are 59" in reason


# -- gradients ---------------------------------------------------------------------------------


@dataclass
class Quadratic:
    """Loss of the product of two tensors' entries, two batches of one example."""

    examples: ClassVar[Tensor] = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])

    def batches(self, count: int, size: int) -> list[Tensor]:
        return list(self.examples[: count * size].split(size))

    def loss(self, params: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        return (batch @ (params["b"].square() + params["a"].sum())).mean()

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        raise NotImplementedError

    def stream(self, *names: object) -> torch.Generator:
        return stream(0, *names)


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("batches", [1, 2])
def test_gradient_and_saliency_of_either_moment(when: When, batches: int) -> None:
    mask = Mask({"b": torch.tensor([True, False, True])})
    at, probe = snapshot(mask), Quadratic()
    weights = OTHER[0] if when is When.START else [OTHER[1][0], 0.0, OTHER[1][2]]
    sums = probe.examples[:batches].sum(0).tolist()
    slopes = [2 * w * x for w, x in zip(weights, sums, strict=True)]
    gradient = Gradient(batches=batches, batch_size=1, when=when)(at, probe)
    assert gradient["b"].tolist() == pytest.approx([abs(g) for g in slopes])
    assert gradient["a"].flatten().tolist() == pytest.approx([abs(math.fsum(sums))] * 8)
    saliency = Saliency(batches=batches, batch_size=1, when=when)(at, probe)
    expected = [abs(g * w) for g, w in zip(slopes, weights, strict=True)]
    assert saliency["b"].tolist() == pytest.approx(expected)
    assert not any(tensor.requires_grad for tensor in (*gradient.values(), *saliency.values()))
