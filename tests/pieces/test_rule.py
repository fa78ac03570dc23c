"""ByScore: who competes with whom, and what may not come back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.allocation import ERK, Global, Uniform
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import Magnitude, Need, Random, Snapshot
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream

A = torch.tensor([[0.1, -0.9], [0.3, -0.2]])
B = torch.tensor([5.0, -6.0, 0.25])
LAYERS = tuple(
    Layer(name=name, shape=tuple(tensor.shape), kind="linear", rate=0.8)
    for name, tensor in (("a", A), ("b", B))
)


def snapshot(mask: Mask = FULL) -> Snapshot:
    start = Params({"a": -A, "b": torch.zeros(3), "bias": torch.ones(9)})
    return Snapshot(
        start=start, end=mask.apply(start.replaced({"a": A, "b": B})), mask=mask, layers=LAYERS
    )


class OnlyStreams:
    """A probe that has no data."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    def stream(self, *names: object) -> torch.Generator:
        return stream(3, *names)


def cut(rule: ByScore, target: Target, mask: Mask = FULL) -> dict[str, list[int]]:
    found = rule.cut(snapshot(mask), OnlyStreams(), target)
    assert found.params is None
    return {x.name: found.mask.of(x.name, x.shape).reshape(-1).int().tolist() for x in LAYERS}


@pytest.mark.parametrize(
    ("allocation", "target", "expected"),
    [
        (Global(), Target(round=1, density=3 / 7), {"a": [0, 1, 0, 0], "b": [1, 1, 0]}),
        (Global(), Target(round=1, density=4 / 7), {"a": [0, 1, 1, 0], "b": [1, 1, 0]}),
        (Uniform(), Target(round=1, density=0.5), {"a": [0, 1, 1, 0], "b": [1, 1, 0]}),
        (Uniform(), Target(round=1, density=0.25), {"a": [0, 1, 0, 0], "b": [0, 1, 0]}),
        (
            Uniform(),
            Target(round=1, density=0.25, counts={"a": 3, "b": 0}),
            {"a": [0, 1, 1, 1], "b": [0, 0, 0]},
        ),  # counts of the target go before the allocation
        (Global(), Target(round=1, density=0.999), {"a": [1, 1, 1, 1], "b": [1, 1, 1]}),
    ],
)
def test_who_competes(allocation: Any, target: Target, expected: dict[str, list[int]]) -> None:
    assert cut(ByScore(score=Magnitude(), allocation=allocation), target) == expected


def test_what_is_cut_does_not_come_back() -> None:
    prior = Mask({"a": torch.tensor([[True, False], [True, True]])})
    found = cut(ByScore(score=Magnitude()), Target(round=2, density=3 / 7), prior)
    assert found == {"a": [0, 0, 1, 0], "b": [1, 1, 0]}
    with pytest.raises(RecipeError, match="only 3 are left"):
        cut(ByScore(score=Magnitude()), Target(round=2, density=1, counts={"a": 4, "b": 3}), prior)


def test_magnitude_looks_at_the_end_and_random_at_the_stream() -> None:
    at = snapshot()
    assert Magnitude()(at, OnlyStreams())["b"].tolist() == [5.0, 6.0, 0.25]
    drawn = Random()(at, OnlyStreams())
    assert drawn["a"].equal(torch.rand(2, 2, generator=stream(3, "random-score", "a")))
    assert (Magnitude().needs, Random.needs) == (frozenset({Need.TRAINED}), frozenset())


def test_needs_asks_and_refusals_are_those_of_the_parts() -> None:
    @dataclass(frozen=True)
    class Own:
        needs: ClassVar[frozenset[Need]] = frozenset({Need.BATCHES})
        examples: int = 50

        def __call__(self, at: Snapshot, probe: object) -> Mapping[str, Tensor]:
            return {layer.name: torch.ones(layer.shape) for layer in at.layers}

    rule = ByScore(score=Own(), allocation=ERK())
    assert rule.needs == {Need.BATCHES}
    assert rule.asks(LAYERS, Target(round=1, density=0.5)) == ERK().counts(LAYERS, 0.5)
    assert rule.asks(LAYERS, Target(round=1, density=0.5, counts={"a": 1})) == {"a": 1}
    assert ByScore(score=Own()).asks(LAYERS, Target(round=1, density=0.5)) == 4
    setting = Setting(layers=LAYERS, targets=(), examples=50, steps=10, objective="CrossEntropy")
    assert rule.refuses(setting) is None
    assert ByScore(score=Magnitude()).refuses(replace(setting, examples=1)) is None
    reason = rule.refuses(replace(setting, examples=49))
    assert reason == "Own wants 50 training examples, there are 49; ask for fewer."
