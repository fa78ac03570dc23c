"""LAMP against the double loop of its definition, and as the sharing of any other ranking."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tombola.pieces.allocation import Global
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import LAMP, Magnitude, Random, Reversed, Saliency, Score, Snapshot
from tombola.testing import toy_world
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.probe import NetworkProbe

PROBE = NetworkProbe(toy_world(), 0)


def snapshot(weights: dict[str, list[float]], mask: Mask = FULL) -> Snapshot:
    tensors = {name: torch.tensor(values) for name, values in weights.items()}
    layers = tuple(
        Layer(name=name, shape=tuple(t.shape), kind="linear", rate=0.8)
        for name, t in tensors.items()
    )
    return Snapshot(start=Params(tensors), end=Params(tensors), mask=mask, layers=layers)


def by_definition(weights: list[float], kept: list[bool]) -> list[float]:
    """w^2 over the sum of v^2 for all v that are larger, or equal and not of higher index."""
    scores = []
    for i, w in enumerate(weights):
        larger = [
            v
            for j, v in enumerate(weights)
            if kept[j] and (v * v > w * w or (v * v == w * w and j <= i))
        ]
        scores.append(w * w / sum(v * v for v in larger) if kept[i] and w else 0.0)
    return scores


WEIGHTS = st.lists(st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=9)


@settings(deadline=None)
@given(first=WEIGHTS, second=WEIGHTS, data=st.data())
def test_lamp_equals_its_definition(
    first: list[float], second: list[float], data: st.DataObject
) -> None:
    bits = [
        data.draw(st.lists(st.booleans(), min_size=len(part), max_size=len(part)))
        for part in (first, second)
    ]
    mask = Mask({name: torch.tensor(kept) for name, kept in zip("ab", bits, strict=True)})
    found = LAMP()(snapshot({"a": first, "b": second}, mask), PROBE)
    for name, weights, kept in zip("ab", (first, second), bits, strict=True):
        assert found[name].tolist() == pytest.approx(by_definition(weights, kept))


def test_the_worked_scores_of_two_tensors() -> None:
    found = LAMP()(snapshot({"a": [3.0, -4.0], "b": [0.1, 0.2]}), PROBE)
    # 9 / 25 and 1; 0.01 / 0.05 and 1: the tensor of small weights is worth as much as the other.
    assert found["a"].tolist() == pytest.approx([0.36, 1.0])
    assert found["b"].tolist() == pytest.approx([0.2, 1.0])


def draws(*counts: int) -> dict[str, list[float]]:
    return {
        f"t{i}": (torch.randn(n, generator=stream(i, "lamp")) * 10.0**-i).tolist()
        for i, n in enumerate(counts)
    }


def kept_by(score: Score, at: Snapshot, total: int) -> dict[str, int]:
    rule = ByScore(score=score, allocation=Global())
    whole = sum(layer.count for layer in at.layers)
    mask = rule.cut(at, PROBE, Target(round=1, density=total / whole)).mask
    return {layer.name: mask.kept(layer.name, layer.count) for layer in at.layers}


@pytest.mark.parametrize("of", [Random(), Reversed(of=Magnitude())])
def test_another_ranking_inside_tensors_leaves_the_sharing_among_them(of: Score) -> None:
    at = snapshot(draws(40, 25, 7))
    inside, found = of(at, PROBE), LAMP(of=of)(at, PROBE)
    for layer in at.layers:
        assert found[layer.name].argsort().tolist() == inside[layer.name].argsort().tolist()
        assert found[layer.name].max() == 1.0
    for total in (3, 10, 36, 60):
        assert kept_by(LAMP(of=of), at, total) == kept_by(LAMP(), at, total)
    assert kept_by(of, at, 36) != kept_by(LAMP(), at, 36)


def test_no_tensor_is_emptied_before_all_are_down_to_one() -> None:
    at = snapshot(draws(40, 25, 7))
    assert kept_by(Magnitude(), at, 10)["t2"] == 0
    for total in range(3, 73):
        assert min(kept_by(LAMP(), at, total).values()) >= 1
    assert kept_by(LAMP(), at, 3) == {"t0": 1, "t1": 1, "t2": 1}
    level = snapshot({"a": [1.0] * 9, "b": [5.0, 1.0]})
    assert kept_by(LAMP(), level, 2) == {"a": 1, "b": 1}


def test_frozen_values_of_cut_weights_count_for_nothing() -> None:
    mask = Mask({"a": torch.tensor([True, True, False])})
    found = LAMP()(snapshot({"a": [3.0, 4.0, 100.0]}, mask), PROBE)["a"]
    assert found.tolist() == pytest.approx([0.36, 1.0, 0.0])
    assert found.dtype is torch.float64


def test_it_asks_for_what_the_inner_score_asks_for() -> None:
    assert LAMP().needs == Magnitude().needs
    assert LAMP(of=Saliency(batch_size=30)).needs == Saliency().needs
    assert LAMP(of=Saliency(batches=2, batch_size=30)).examples == 60
    assert LAMP().examples == 0


def test_a_tensor_of_zeros_scores_zero() -> None:
    found: Tensor = LAMP()(snapshot({"a": [0.0, 0.0]}), PROBE)["a"]
    assert found.tolist() == [0.0, 0.0]
