"""N of every M weights along the inputs, against a loop over runs."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.n_of_m import NOfM, n_of_m
from tombola.pieces.schedule import Target
from tombola.pieces.score import Magnitude, Saliency
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.rng import stream


def slow(scores: Tensor, n: int, m: int) -> Tensor:
    """Run by run, the best n by sorting pairs."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    rest = [range(size) for size in scores.shape[2:]]
    for row, run, *place in product(range(len(scores)), range(scores.shape[1] // m), *rest):
        entries = [run * m + k for k in range(m)]
        best = sorted(entries, key=lambda at: (-float(scores[row, at, *place]), at))[:n]
        for at in best:
            kept[row, at, *place] = True
    return kept


@pytest.mark.parametrize("shape", [(5, 8), (2, 8, 3, 3), (3, 4, 2)])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (0, 2), (4, 4)])
def test_exactly_n_of_each_run_and_the_largest(shape: tuple[int, ...], n: int, m: int) -> None:
    scores = torch.randn(shape, generator=stream(0, "scores")).mul(2).round()  # with many ties
    found = n_of_m(scores, torch.ones(shape, dtype=torch.bool), n, m, "w")
    assert torch.equal(found, slow(scores, n, m))
    assert bool((found.movedim(1, -1).unflatten(-1, (-1, m)).sum(-1) == n).all())


def test_only_of_what_is_left() -> None:
    scores, whole = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.ones(1, 4, dtype=torch.bool)
    three = n_of_m(scores, whole, 3, 4, "w") & torch.tensor([[False, True, True, True]])
    assert n_of_m(scores, three, 2, 4, "w").tolist() == [[False, True, True, False]]
    with pytest.raises(RecipeError, match="'w' has runs of 4 weights of which only 2 are left, 3"):
        n_of_m(scores, three, 3, 4, "w")
    with pytest.raises(RecipeError, match="score of 'w' has NaN"):
        n_of_m(scores / 0.0 * 0.0, whole, 2, 4, "w")


def setting(shape: tuple[int, ...], *targets: Target) -> Setting:
    layer = Layer(name="w", shape=shape, kind="linear", rate=0.8)
    facts: dict[str, Any] = {"layers": (layer,), "targets": targets, "examples": 9, "steps": 1}
    return Setting(**facts, objective="CrossEntropy")


def test_what_m_does_not_divide_is_refused_by_name() -> None:
    rule, half = NOfM(score=Magnitude()), Target(round=1, density=0.5)
    assert rule.refuses(setting((3, 8), half)) is None
    for shape in ((8, 3, 3, 3), (8,), (4, 6)):
        reason = rule.refuses(setting(shape, half))
        assert reason is not None and "does not divide the inputs of 'w'" in reason
        assert "Scope(exclude=('w',))" in reason
    assert "wants 10" in str(NOfM(score=Saliency(batch_size=10)).refuses(setting((1, 4), half)))


@pytest.mark.parametrize(
    "target",
    [
        Target(round=2, density=0.4),
        Target(round=2, density=0.5, counts={"w": 11}),
    ],
)
def test_densities_between_the_steps_are_refused(target: Target) -> None:
    reason = NOfM(score=Magnitude()).refuses(setting((3, 8), target))
    assert reason is not None and "one of 0.25, 0.5, 0.75; round 2 asks for density" in reason
    fits = Target(round=1, density=0.25, counts={"w": 6})
    assert NOfM(score=Magnitude()).refuses(setting((3, 8), fits)) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NOfM(score=Magnitude(), m=1), r"NOfM\(m=1\): want a whole number, 2 or more"),
        (lambda: NOfM(score=1), "1 is not a Score"),
    ],
)
def test_patterns_that_mean_nothing_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()
