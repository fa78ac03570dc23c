"""Targets against numbers written by hand, from the paper and from the design."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.errors import RecipeError
from tombola.pieces.schedule import (
    DENSE,
    Densities,
    LayerRates,
    Schedule,
    Target,
    UpTo,
    check_density,
    round_half_up,
)
from tombola.values.layer import Layer


def layers_of(*counts: int, rates: tuple[float, ...] = (0.8, 0.8, 0.9)) -> tuple[Layer, ...]:
    return tuple(
        Layer(name=f"l{i}", shape=(n,), kind="linear", rate=rate)
        for i, (n, rate) in enumerate(zip(counts, rates, strict=False))
    )


DIGITS = layers_of(19_200, 30_000, 1_000)
LENET = layers_of(235_200, 30_000, 1_000)


def kept(target: Target) -> list[int]:
    assert target.counts is not None
    return list(target.counts.values())


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.0, 0),
        (0.4, 0),
        (0.5, 1),
        (1.5, 2),
        (2.5, 3),
        (2.4999, 2),
        (3.5, 4),
        (1e6 + 0.5, 1_000_001),
    ],
)
def test_halves_go_up(value: float, rounded: int) -> None:
    assert round_half_up(value) == rounded


def test_the_tenth_round_on_digits() -> None:
    targets = LayerRates().targets(DIGITS, 0.1122)
    assert kept(targets[10]) == [2_062, 3_221, 349]
    assert (sum(kept(targets[10])), len(targets)) == (5_632, 11)
    assert targets[10].density == 5_632 / 50_200
    assert targets[0] is DENSE
    assert kept(targets[1]) == [15_360, 24_000, 900]


def test_the_labels_of_the_paper_are_rounds_of_lenet() -> None:
    # Figures of 2019 label 51.3, 21.1, 7.0, 3.6 and 1.9 %.
    targets = LayerRates(rounds=18).targets(LENET, 0.5)
    labels = [round(100 * targets[r].density, 2) for r in (3, 7, 12, 15, 18)]
    assert labels == [51.28, 21.07, 6.95, 3.58, 1.85]


def test_counts_come_from_the_original_size() -> None:
    # 7 x .8 = 5.6, 4.48, 3.584: rounding each from the last would give 6, 5, 4, 3.
    targets = LayerRates(rounds=4).targets(layers_of(7, 1_000), 0.5)
    assert [kept(target)[0] for target in targets[1:]] == [6, 4, 4, 3]


def test_rounds_go_to_the_judged_density_and_not_past_it() -> None:
    for judged in (0.9, 0.5, 0.1122, 0.02):
        targets = LayerRates().targets(DIGITS, judged)
        assert targets[-1].density <= judged < targets[-2].density
    assert LayerRates().targets(DIGITS, 1.0) == (DENSE,)


def test_a_round_that_cuts_nothing_does_not_end_the_schedule() -> None:
    # 10 x .9^r = 9, 8.1, 7.29, 6.56, 5.9: the fourth keeps as many as the third, the fifth fewer.
    small = layers_of(10, rates=(0.9,))
    targets = LayerRates(rounds=7).targets(small, 0.1)
    assert [kept(target)[0] for target in targets[1:]] == [9, 8, 7, 7, 6, 5, 5]
    assert LayerRates().targets(small, 0.2)[-1].density <= 0.2


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.5, 1.0)])
def test_it_ends_when_no_round_could_cut_more(rates: tuple[float, float]) -> None:
    targets = LayerRates(rounds=500).targets(layers_of(4, 3, rates=rates), 0.001)
    assert kept(targets[-1]) == [0, 0 if rates[1] < 1 else 3]
    assert len(targets) < 10


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=3),
    st.sampled_from([(0.8, 0.8, 0.9), (0.5, 0.95, 0.99)]),
    st.floats(0.01, 1.0),
)
def test_counts_follow_the_formula(
    sizes: list[int], rates: tuple[float, ...], judged: float
) -> None:
    layers = layers_of(*sizes, rates=rates)
    targets = LayerRates().targets(layers, judged)
    assert [target.round for target in targets] == list(range(len(targets)))
    for target in targets[1:]:
        for layer in layers:
            exact = layer.count * layer.rate**target.round
            assert target.counts is not None
            assert target.counts[layer.name] == math.floor(exact + 0.5)
        assert target.density == sum(kept(target)) / sum(sizes)
    assert targets[-1].density <= judged


def test_rates_of_one_cut_nothing_and_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"every layer's rate is 1"):
        LayerRates().targets(layers_of(10, rates=(1.0,)), 0.1)
    with pytest.raises(RecipeError, match=r"rounds=0.*at least one"):
        LayerRates(rounds=0)


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (0.0, r"density 0\.0 is not a fraction kept; want more than 0, at most 1\.$"),
        (-0.1, r"density -0\.1 .*want more than 0, at most 1\.$"),
        (math.nan, r"density nan .*want more than 0, at most 1\.$"),
        (math.inf, r"density inf .*at most 1\.$"),
        (1.5, r"density 1\.5 .*To keep 1\.5 % of the weights pass 0\.015\."),
        (20, r"To keep 20 % of the weights pass 0\.2\."),
        ("0.5", r"density 0\.5 is not a fraction kept"),
        (None, r"density None"),
    ],
)
@pytest.mark.parametrize(
    "use", [lambda d: Densities(values=(0.5, d)), lambda d: check_density("here", d)]
)
def test_densities_that_are_none_are_refused_and_told_what_to_pass(
    use: Callable[[object], object], density: object, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        use(density)


def test_densities_are_one_a_round_from_dense_to_sparse() -> None:
    targets = Densities(values=(0.5, 0.5, 0.1)).targets(DIGITS, 0.3)
    assert [(t.round, t.density, t.counts) for t in targets] == [
        (0, 1.0, None),
        (1, 0.5, None),
        (2, 0.5, None),
        (3, 0.1, None),
    ]
    assert [t.density for t in Densities().targets(DIGITS, 0.3)] == [1.0, 0.3]
    assert check_density("here", np.float64(0.5)) == 0.5
    with pytest.raises(RecipeError, match=r"values=\(\)\): want at least one"):
        Densities(values=())
    with pytest.raises(RecipeError, match=r"\(0\.1, 0\.5\).*from dense to sparse"):
        Densities(values=(0.1, 0.5))


@pytest.mark.parametrize("of", [LayerRates(rounds=5), LayerRates(), Densities(values=(0.5, 0.2))])
def test_up_to_is_the_beginning_of_another_schedule(of: Schedule) -> None:
    whole = of.targets(DIGITS, 0.3)
    for number in range(len(whole) + 2):
        assert UpTo(of=of, round=number).targets(DIGITS, 0.3) == whole[: number + 1]
    again = UpTo(of=UpTo(of=of, round=2), round=1)
    assert again.targets(DIGITS, 0.3) == whole[:2]
    assert replace(again, round=9).targets(DIGITS, 0.3) == whole[:3]
