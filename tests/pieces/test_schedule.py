"""Targets against numbers written by hand, from the paper and from the design."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.errors import RecipeError
from tombola.pieces.schedule import (
    DENSE,
    Cubic,
    Densities,
    Geometric,
    LayerRates,
    Linear,
    Schedule,
    Target,
    UpTo,
    at_or_below,
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


def totals(schedule: Schedule, total: int, judged: float = 0.5) -> list[int]:
    """What each round after the dense one keeps of so many weights, in whole weights."""
    targets = schedule.targets(layers_of(total), judged)
    assert targets[0] is DENSE
    assert [target.round for target in targets] == list(range(len(targets)))
    assert all(target.counts is None for target in targets)
    whole = [target.density * total for target in targets[1:]]
    assert whole == pytest.approx([round(value) for value in whole], abs=1e-6)
    return [round(value) for value in whole]


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
    assert at_or_below(targets[-1], judged, layers)
    assert not any(at_or_below(target, judged, layers) for target in targets[:-1])


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


# -- all tensors counted together -------------------------------------------------------------


def test_the_ladder_of_a_fifth_a_round() -> None:
    # The densities that papers name 59, 73.8, 83.2, 89.26, 91.4, 94.5 and 95.6 % sparse are rounds
    # 4, 6, 8, 10, 11, 13 and 14.
    ladder = (
        ".8000 .6400 .5120 .4096 .3277 .2621 .2097 .1678 .1342 .1074 .0859 .0687 .0550 .0440 .0352 "
        ".0281 .0225 .0180 .0144 .0115"
    )
    targets = Geometric(rounds=20).targets(layers_of(10**8), 0.5)
    assert " ".join(f"{t.density:.4f}"[1:] for t in targets[1:]) == ladder
    removed = [100 * (1 - targets[r].density) for r in (4, 6, 8, 10, 11, 13, 14)]
    assert removed == pytest.approx([59.0, 73.8, 83.2, 89.26, 91.4, 94.5, 95.6], abs=0.05)


def test_geometric_counts_come_from_the_original_size() -> None:
    # 7 x .8 = 5.6, 4.48, 3.584: rounding each from the last would give 6, 5, 4, 3.
    assert totals(Geometric(rounds=5), 7) == [6, 4, 4, 3, 2]
    assert Geometric(rounds=2).targets(DIGITS, 0.5)[2].density == 32_128 / 50_200


def test_a_tenth_of_the_original_weights_a_round() -> None:
    assert totals(Linear(rounds=9), 1_000) == [900, 800, 700, 600, 500, 400, 300, 200, 100]
    # Halves go up in every round: 5 x .9 = 4.5, and 5 x .7 is 3.5 though 1 - 3 x .1 is not .7.
    assert totals(Linear(rounds=9), 5) == [5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert totals(Linear(), 1_000, judged=0.65) == [900, 800, 700, 600]
    assert totals(Linear(cut=0.3), 10, judged=0.1) == [7, 4, 1]


def test_cubic_follows_equation_1() -> None:
    # s_t = s_f + (s_i - s_f) (1 - t/n)^3 with s_i = 0, s_f = .9, n = 4.
    sparse = [0.9 - 0.9 * (1 - t / 4) ** 3 for t in (1, 2, 3, 4)]
    expected = [round_half_up(10_000 * (1 - s)) for s in sparse]
    assert totals(Cubic(rounds=4, final=0.1), 10_000) == expected == [4_797, 2_125, 1_141, 1_000]
    assert totals(Cubic(rounds=3), 1_000, judged=0.2)[-1] == 200
    assert totals(Cubic(rounds=1), 1_000, judged=0.3) == [300]


@settings(deadline=None, max_examples=60)
@given(
    total=st.integers(1, 5_000),
    percent=st.integers(1, 99),
    rounds=st.integers(1, 9),
    kind=st.sampled_from(["geometric", "linear", "cubic"]),
)
def test_totals_follow_their_formulas(total: int, percent: int, rounds: int, kind: str) -> None:
    share = Fraction(percent, 100)
    if kind == "geometric":
        found = totals(Geometric(keep=float(share), rounds=rounds), total)
        exact = [share**r for r in range(1, rounds + 1)]
    elif kind == "linear":
        share /= 10
        found = totals(Linear(cut=float(share), rounds=rounds), total)
        exact = [1 - r * share for r in range(1, rounds + 1)]
    else:
        found = totals(Cubic(rounds=rounds, final=float(share)), total)
        exact = [share + (1 - share) * (1 - Fraction(r, rounds)) ** 3 for r in range(1, rounds + 1)]
    for whole, density in zip(found, exact, strict=True):
        assert abs(whole - density * total) <= Fraction(1, 2) + Fraction(1, 10**6)
        if kind == "linear":
            assert whole == math.floor(density * total + Fraction(1, 2))


@pytest.mark.parametrize("schedule", [Geometric(), Geometric(keep=0.93), Linear(cut=0.01)])
@pytest.mark.parametrize("total", [10, 77, 192, 50_200])
@pytest.mark.parametrize("judged", [1.0, 0.64, 0.5, 0.3, 0.0501])
def test_they_go_to_the_judged_density_and_not_past_it(
    schedule: Schedule, total: int, judged: float
) -> None:
    wanted, rounds = round_half_up(judged * total), totals(schedule, total, judged)
    if judged == 1.0:
        assert rounds == []
    else:
        assert rounds[-1] <= wanted
        assert all(whole > wanted for whole in rounds[:-1])


def test_at_or_below_is_to_the_nearest_weight() -> None:
    layers = layers_of(192)
    # .3 x 192 = 57.6, so 58 weights are what a density of .3 asks for.
    assert at_or_below(Target(round=1, density=58 / 192), 0.3, layers)
    assert not at_or_below(Target(round=1, density=59 / 192), 0.3, layers)
    assert len(Linear().targets(layers, 0.3)) == 8
    assert len(LayerRates().targets(layers_of(192, rates=(0.7,)), 0.7)) == 2  # 134.4: 134


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Geometric(keep=1.0), r"Geometric\(keep=1\.0\): want a fraction between 0 and 1"),
        (lambda: Geometric(keep=0.0), r"Geometric\(keep=0\.0\)"),
        (lambda: Geometric(keep="0.8"), r"Geometric\(keep=0\.8\)"),  # type: ignore[arg-type]
        (lambda: Geometric(rounds=0), r"Geometric\(rounds=0\): want at least one round"),
        (lambda: Linear(cut=1.5), r"Linear\(cut=1\.5\): want a fraction"),
        (lambda: Linear(rounds=-1), r"Linear\(rounds=-1\)"),
        (lambda: Linear(rounds=10), r"Linear\(cut=0\.1, rounds=10\) would leave.*at most 9 rounds"),
        (lambda: Linear(cut=0.3, rounds=4), r"would leave nothing; want at most 3"),
        (lambda: Linear().targets(LENET, 0.05), r"from density 0\.1 to nothing, past.*0\.05"),
        (lambda: Cubic(rounds=0), r"Cubic\(rounds=0\)"),
        (lambda: Cubic(rounds=3, final=0.0), r"Cubic\(final\): density 0\.0 is not a fraction"),
        (lambda: Cubic(rounds=3, final=20), r"To keep 20 % of the weights pass 0\.2"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


@pytest.mark.parametrize(
    "of",
    [
        LayerRates(rounds=5),
        LayerRates(),
        Densities(values=(0.5, 0.2)),
        Geometric(),
        Linear(rounds=4),
        Cubic(rounds=6),
    ],
)
def test_up_to_is_the_beginning_of_another_schedule(of: Schedule) -> None:
    whole = of.targets(DIGITS, 0.3)
    for number in range(len(whole) + 2):
        assert UpTo(of=of, round=number).targets(DIGITS, 0.3) == whole[: number + 1]
    again = UpTo(of=UpTo(of=of, round=2), round=1)
    assert again.targets(DIGITS, 0.3) == whole[:2]
    assert replace(again, round=9).targets(DIGITS, 0.3) == whole[:3]
