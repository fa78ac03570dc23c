"""The cut against a sort in plain Python, on arrays written by hand."""

import random
from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.errors import RecipeError
from tombola.pieces.schedule import round_half_up
from tombola.pieces.select import keep_top, keep_top_together
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask


def layer(name: str, *shape: int) -> Layer:
    return Layer(name=name, shape=shape, kind="linear", rate=0.8)


def twin(scores: list[float], allowed: list[bool], count: int) -> list[bool]:
    """The `count` highest of those allowed, the lower index first where they are equal."""
    places = sorted((i for i, ok in enumerate(allowed) if ok), key=lambda i: (-scores[i], i))
    return [i in places[:count] for i in range(len(scores))]


def kept(mask: Mask, name: str, count: int) -> list[bool]:
    return mask.of(name, (count,)).reshape(-1).tolist()


WRITTEN = [
    # scores, allowed (1 = not cut before), count, kept
    ([5, 1, 4, 2, 3, 0], "111111", 3, "101010"),
    ([5, 1, 4, 2, 3, 0], "111111", 6, "111111"),
    ([5, 1, 4, 2, 3, 0], "111111", 0, "000000"),
    ([5, 1, 4, 2, 3, 0], "010111", 2, "000110"),  # 5 and 4 were cut before
    ([5, 1, 4, 2, 3, 0], "010111", 4, "010111"),
    ([5, 1, 4, 2, 3, 0], "000000", 0, "000000"),
    ([2, 1, 2, 1, 2, 1], "111111", 2, "101000"),  # ties
    ([2, 1, 2, 1, 2, 1], "111111", 4, "111010"),
    ([2, 1, 2, 1, 2, 1], "011111", 2, "001010"),
    ([0, 0, 0, 0, 0, 0], "111111", 4, "111100"),  # all equal
    ([0, -0.0, 0, -0.0, 0, 0], "111111", 3, "111000"),  # zeros of both signs are equal
    ([-1, -3, -2, -1, -5, -4], "111111", 2, "100100"),  # scores may be negative
    ([1e-30, 1e30, -1e30, 0, 1e-38, 2], "111111", 2, "010001"),
    ([7], "1", 1, "1"),  # one weight
    ([7], "1", 0, "0"),
    ([1, 1, 1], "111", 3, "111"),
]


@pytest.mark.parametrize(("scores", "allowed", "count", "expected"), WRITTEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cuts_written_by_hand(
    scores: list[float], allowed: str, count: int, expected: str, dtype: torch.dtype
) -> None:
    ok, want = [c == "1" for c in allowed], [c == "1" for c in expected]
    assert twin(scores, ok, count) == want
    given_ = {"w": torch.tensor(scores, dtype=dtype)}
    prior = Mask({"w": torch.tensor(ok)})
    one = (layer("w", len(scores)),)
    assert kept(keep_top(given_, one, {"w": count}, prior), "w", len(ok)) == want
    assert kept(keep_top_together(given_, one, count, prior), "w", len(ok)) == want


LEVELS = st.sampled_from([-1.0, -0.0, 0.0, 0.25, 0.5, 1.0])  # few, so that there are many ties


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.lists(st.tuples(LEVELS, st.booleans()), min_size=1, max_size=12), min_size=1, max_size=3
    ),
    st.randoms(use_true_random=False),
)
def test_cuts_equal_the_sort_in_plain_python(
    tensors: list[list[tuple[float, bool]]], rng: random.Random
) -> None:
    scores = {f"t{i}": [value for value, _ in t] for i, t in enumerate(tensors)}
    allowed = {f"t{i}": [ok for _, ok in t] for i, t in enumerate(tensors)}
    layers = tuple(layer(name, 1, len(values)) for name, values in scores.items())
    given_ = {name: torch.tensor([values]) for name, values in scores.items()}
    prior = Mask({name: torch.tensor([ok]) for name, ok in allowed.items()})

    counts = {name: rng.randint(0, sum(ok)) for name, ok in allowed.items()}
    found = keep_top(given_, layers, counts, prior)
    for name, values in scores.items():
        assert kept(found, name, len(values)) == twin(values, allowed[name], counts[name])
    turned = keep_top(given_, layers[::-1], counts, prior)
    assert turned.digest == found.digest  # tensors do not compete, so their order plays no part

    total = rng.randint(0, sum(map(sum, allowed.values())))
    flat, free = list(chain(*scores.values())), list(chain(*allowed.values()))
    together = keep_top_together(given_, layers, total, prior)
    got = chain(*(kept(together, name, len(values)) for name, values in scores.items()))
    assert list(got) == twin(flat, free, total)
    assert found <= prior
    assert together <= prior


def test_together_ties_go_to_the_earlier_tensor() -> None:
    scores = {"b": torch.ones(3), "a": torch.ones(3)}
    found = keep_top_together(scores, (layer("b", 3), layer("a", 3)), 4, FULL)
    assert (found.kept("b", 3), found["a"].tolist()) == (3, [True, False, False])


def test_together_compares_tensors_of_different_precision_exactly() -> None:
    small = torch.tensor([0.1], dtype=torch.float64)
    scores = {"a": small.float(), "b": small}  # float32(.1) is a little more than .1
    found = keep_top_together(scores, (layer("b", 1), layer("a", 1)), 1, FULL)
    assert (found.kept("a", 1), found.kept("b", 1)) == (1, 0)


def test_a_density_of_almost_one_keeps_all_of_three_weights() -> None:
    count = round_half_up(0.999 * 3)
    found = keep_top({"w": torch.tensor([3.0, 1.0, 2.0])}, (layer("w", 3),), {"w": count}, FULL)
    assert (count, found.digest) == (3, FULL.digest)


def test_cuts_of_falling_counts_are_nested() -> None:
    scores = {"w": torch.tensor([1.0, 3, 3, 2, 0, 3, 0, 0])}
    masks = [keep_top(scores, (layer("w", 8),), {"w": count}, FULL) for count in range(8, -1, -1)]
    assert all(after <= before for before, after in pairwise(masks))
    assert [mask.kept("w", 8) for mask in masks] == list(range(8, -1, -1))


def test_shapes_are_kept_and_scores_are_not_written_into() -> None:
    scores = {"w": torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2).requires_grad_()}
    before = scores["w"].detach().clone()
    found = keep_top(scores, (layer("w", 4, 3, 2),), {"w": 5}, FULL)["w"]
    assert (found.shape, int(found.sum())) == (torch.Size([4, 3, 2]), 5)
    assert scores["w"][found].min() > scores["w"][~found].max()
    assert scores["w"].detach().equal(before)


@pytest.mark.parametrize(
    ("scores", "count", "message"),
    [
        ({}, 1, r"gave nothing for 'w'; it gave \[\]"),
        ({"v": torch.ones(3)}, 1, r"gave nothing for 'w'; it gave \['v'\]"),
        ({"w": torch.ones(1, 3)}, 1, r"shape \(1, 3\), want \(3,\): one number per weight"),
        ({"w": torch.tensor([1.0, float("nan"), 2.0])}, 1, r"NaN or infinity.*float64, or clamp"),
        ({"w": torch.tensor([1.0, float("inf"), 2.0])}, 1, r"NaN or infinity"),
        ({"w": torch.ones(3)}, 3, r"keeps 3 weights of .*only 2 are left: a later round"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(
    scores: dict[str, torch.Tensor], count: int, message: str
) -> None:
    prior, one = Mask({"w": torch.tensor([True, False, True])}), (layer("w", 3),)
    with pytest.raises(RecipeError, match=message):
        keep_top(scores, one, {"w": count}, prior)
    with pytest.raises(RecipeError, match=message):
        keep_top_together(scores, one, count, prior)
