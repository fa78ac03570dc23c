"""How a density is shared out, against worked values and slow twins."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tombola.errors import RecipeError
from tombola.pieces.allocation import ERK, Allocation, ByRate, BySensitivity, Global, Uniform
from tombola.pieces.schedule import LayerRates, round_half_up
from tombola.values.layer import Layer

Shape = tuple[int, ...]
LENET = ((300, 784), (100, 300), (10, 100))
CONV4 = (
    (64, 3, 3, 3),
    (64, 64, 3, 3),
    (128, 64, 3, 3),
    (128, 128, 3, 3),
    (256, 8192),
    (256, 256),
    (10, 256),
)


def layers_of(*shapes: Shape, rates: tuple[float, ...] = ()) -> tuple[Layer, ...]:
    rates = rates or (0.8,) * len(shapes)
    return tuple(
        Layer(name=f"l{i}", shape=shape, kind="linear", rate=rate)
        for i, (shape, rate) in enumerate(zip(shapes, rates, strict=True))
    )


SHAPES = st.lists(
    st.lists(st.integers(1, 12), min_size=2, max_size=3).map(tuple), min_size=1, max_size=6
)
DENSITY = st.integers(1, 1000).map(lambda n: Fraction(n, 1000))


def in_turn(
    layers: tuple[Layer, ...], total: int, due: Callable[[Layer, Fraction], Fraction | float]
) -> tuple[dict[str, int], Fraction | float]:
    """Weights given out one at a time, each to the tensor whose share reaches its next half first.

    due: at which setting a tensor's share reaches a number of weights. Also returns at which
    setting the last weight was given.
    """
    counts, last = {layer.name: 0 for layer in layers}, Fraction(0)
    for _ in range(total):
        waiting = {
            la.name: due(la, counts[la.name] + Fraction(1, 2))
            for la in layers
            if counts[la.name] < la.count
        }
        name = min(waiting, key=lambda one: waiting[one])
        last = waiting[name]
        counts[name] += 1
    return counts, last


def check_against_the_twin(
    allocation: Allocation,
    layers: tuple[Layer, ...],
    density: Fraction,
    due: Callable[[Layer, Fraction], Fraction | float],
) -> dict[str, int]:
    """The counts of the slow twin; where shares tie at the last weight, another tensor's turn."""
    total = math.floor(density * sum(layer.count for layer in layers) + Fraction(1, 2))
    counts = allocation.counts(layers, float(density))
    assert sum(counts.values()) == total
    expected, last = in_turn(layers, total, due)
    for layer in layers:
        there, here = expected[layer.name], counts[layer.name]
        if here != there:
            assert abs(here - there) == 1
            gained = due(layer, max(here, there) - Fraction(1, 2))
            assert float(gained) == pytest.approx(float(last), rel=1e-9, abs=1e-9)
    return counts


def twin(shapes: list[Shape], density: Fraction) -> list[Fraction]:
    """Densities of an Erdős-Rényi kernel in exact arithmetic, one tensor made dense at a time.

    The authors fill all that attain the maximum at once; one at a time ends in the same place.
    """
    dense: set[int] = set()
    budget = density * sum(map(math.prod, shapes))
    while True:
        spread = sum(sum(shape) for i, shape in enumerate(shapes) if i not in dense)
        if not spread:
            return [Fraction(1)] * len(shapes)
        spent = sum(math.prod(shapes[i]) for i in dense)
        factor = Fraction(budget - spent) / spread
        share = [
            Fraction(1) if i in dense else factor * sum(shape) / math.prod(shape)
            for i, shape in enumerate(shapes)
        ]
        if max(share) <= 1:
            return share
        dense.add(max(range(len(shapes)), key=lambda i: share[i]))


@pytest.mark.parametrize(
    ("shapes", "density", "expected"),
    [
        (LENET, 0.20, [0.1622, 0.4694, 1]),
        (LENET, 0.10, [0.0796, 0.2302, 1]),
        (LENET, 0.05, [0.0385, 0.1113, 0.9185]),
        (LENET, 0.02, [0.0154, 0.0445, 0.3674]),
        (CONV4, 0.10, [1, 0.0906, 0.0670, 0.0443, 0.1004, 0.1948, 1]),
    ],
)
def test_erk_gives_the_worked_values(
    shapes: tuple[Shape, ...], density: float, expected: list[float]
) -> None:
    layers = layers_of(*shapes)
    found = ERK().densities(layers, density)
    assert [round(value, 4) for value in found.values()] == expected
    total = sum(layer.count for layer in layers)
    assert sum(found[la.name] * la.count for la in layers) == pytest.approx(density * total)
    counts = ERK().counts(layers, density)
    assert sum(counts.values()) == round_half_up(density * total)
    for layer, tabled in zip(layers, expected, strict=True):
        assert abs(counts[layer.name] / layer.count - tabled) <= 5e-5 + 1 / layer.count


@settings(deadline=None)
@given(shapes=SHAPES, density=DENSITY)
def test_erk_equals_a_slow_twin(shapes: list[Shape], density: Fraction) -> None:
    layers = layers_of(*shapes)
    expected = twin(shapes, density)
    found = ERK().densities(layers, float(density))
    assert list(found.values()) == pytest.approx([float(share) for share in expected])
    counts = check_against_the_twin(ERK(), layers, density, lambda la, k: k / sum(la.shape))
    for layer, share in zip(layers, expected, strict=True):
        assert abs(counts[layer.name] - share * layer.count) <= len(layers) / 2 + 1


@settings(deadline=None)
@given(shapes=SHAPES, density=DENSITY)
def test_uniform_equals_a_slow_twin(shapes: list[Shape], density: Fraction) -> None:
    layers = layers_of(*shapes)
    check_against_the_twin(Uniform(), layers, density, lambda la, k: k / la.count)


@settings(deadline=None)
@given(
    shapes=SHAPES,
    density=DENSITY,
    rates=st.lists(st.sampled_from([0.5, 0.8, 0.9, 0.99]), min_size=6, max_size=6),
)
def test_by_rate_equals_a_slow_twin(
    shapes: list[Shape], density: Fraction, rates: list[float]
) -> None:
    layers = layers_of(*shapes, rates=tuple(rates[: len(shapes)]))
    check_against_the_twin(
        ByRate(), layers, density, lambda la, k: -math.log(k / la.count) / math.log(la.rate)
    )


@pytest.mark.parametrize(
    ("shapes", "judged"), [(LENET, 0.03), (((300, 64), (100, 300), (10, 100)), 0.1122)]
)
def test_by_rate_at_the_densities_of_layer_rates_gives_its_counts(
    shapes: tuple[Shape, ...], judged: float
) -> None:
    layers = layers_of(*shapes, rates=(0.8, 0.8, 0.9))
    targets = LayerRates().targets(layers, judged)
    assert len(targets) > 10
    for target in targets[1:]:
        assert ByRate().counts(layers, target.density) == target.counts
    between = ByRate().counts(layers, (targets[9].density + targets[10].density) / 2)
    for name, count in between.items():
        assert targets[9].counts[name] > count > targets[10].counts[name]


def test_by_rate_never_cuts_what_has_rate_1() -> None:
    layers = layers_of((10, 10), (5, 4), rates=(0.8, 1.0))
    assert ByRate().counts(layers, 0.5) == {"l0": 40, "l1": 20}
    assert ByRate().counts(layers, 20 / 120) == {"l0": 0, "l1": 20}
    with pytest.raises(RecipeError, match=r"\['l1'\] have rate 1.*their 20 weights.*0\.1 of 120"):
        ByRate().counts(layers, 0.1)
    with pytest.raises(RecipeError, match="have rate 1"):
        ByRate().counts(layers_of((3, 4), rates=(1.0,)), 0.5)


@example(shapes=[(1, 6), (1, 6), (1, 2)], allocation=Uniform(), totals={10, 11})
@settings(deadline=None, max_examples=60)
@given(
    shapes=SHAPES,
    allocation=st.sampled_from([Uniform(), ERK(), ByRate()]),
    totals=st.sets(st.integers(0, 400), min_size=2, max_size=30),
)
def test_no_tensor_gains_when_the_density_falls(
    shapes: list[Shape], allocation: Allocation, totals: set[int]
) -> None:
    """Largest remainders fail here: sizes 6, 6 and 2 share ten weights as 4, 4, 2, but eleven as
    5, 5, 1."""
    layers = layers_of(*shapes, rates=(0.8, 0.9, 0.5, 0.8, 0.95, 0.9)[: len(shapes)])
    whole = sum(layer.count for layer in layers)
    found = [allocation.counts(layers, min(n, whole) / whole) for n in sorted(totals)]
    for number, counts in zip(sorted(totals), found, strict=True):
        assert sum(counts.values()) == min(number, whole)
    for fewer, more in pairwise(found):
        assert all(fewer[name] <= more[name] for name in more)


def test_erk_makes_all_that_attain_the_maximum_dense() -> None:
    small, large = (10, 10), (100, 100)
    found = ERK().densities(layers_of(small, large, small), 0.2)
    assert found == {"l0": 1.0, "l1": pytest.approx((0.2 * 10_200 - 200) / 10_000), "l2": 1.0}


@pytest.mark.parametrize("allocation", [ERK(), Uniform(), ByRate()])
@pytest.mark.parametrize("shapes", [LENET, CONV4, ((7, 3),)])
def test_density_one_keeps_everything(allocation: Allocation, shapes: tuple[Shape, ...]) -> None:
    layers = layers_of(*shapes)
    assert allocation.counts(layers, 1.0) == {layer.name: layer.count for layer in layers}


def test_a_single_tensor_gets_the_density_itself() -> None:
    assert ERK().counts(layers_of((10, 30)), 0.37) == {"l0": 111}


def test_a_density_may_leave_a_tensor_nothing() -> None:
    layers = layers_of((300, 784), (4, 2))
    assert ERK().counts(layers, 1e-5) == {"l0": 2, "l1": 0}
    assert Uniform().counts(layers, 1e-5) == {"l0": 2, "l1": 0}


def test_of_two_tensors_at_a_half_the_larger_goes_up() -> None:
    # 2.5, 4.5 and 8 are to be 15 in all.
    assert Uniform().counts(layers_of((5,), (3, 3), (4, 4)), 0.5) == {"l0": 2, "l1": 5, "l2": 8}
    assert Uniform().counts(layers_of((5,), (5,)), 0.5) == {"l0": 3, "l1": 2}


def test_global_asks_for_one_total() -> None:
    assert Global().counts(layers_of((5,), (3, 3), (4, 4)), 0.5) == 15
    assert Global().counts(layers_of(*LENET), 0.1122) == round(0.1122 * 266_200)


# -- by a scan -------------------------------------------------------------------------------------

SCAN = BySensitivity(
    curves={
        "l0": ((0.5, 1.0), (0.2, 4.0), (0.1, 3.0)),  # noise: sparser, and less lost
        "l1": ((0.5, 0.5), (0.2, 0.5), (0.1, 8.0)),
        "l2": ((0.5, -0.1), (0.2, 0.0), (0.1, 0.0)),  # minds nothing
    }
)


def lost(curve: tuple[tuple[float, float], ...], density: float) -> float:
    """On straight lines between the points of a curve, none below one before it."""
    points, most = [(1.0, 0.0)], 0.0
    for place, loss in curve:
        most = max(most, loss)
        points.append((place, most))
    for (denser, below), (sparser, above) in pairwise(points):
        if density >= sparser:
            return below + (above - below) * (denser - density) / (denser - sparser)
    return math.inf


@pytest.mark.parametrize("density", [0.95, 0.8, 0.5, 0.35, 0.2])
def test_by_sensitivity_all_tensors_lose_the_same_where_their_scan_goes(density: float) -> None:
    layers = layers_of((100, 100), (100, 100), (100, 100))
    counts = SCAN.counts(layers, density)
    assert sum(counts.values()) == round_half_up(density * 30_000)
    losses = [lost(SCAN.curves[name], count / 10_000) for name, count in counts.items()]
    ends = [curve[-1][0] for curve in SCAN.curves.values()]
    inside = [
        loss
        for loss, count, end in zip(losses, counts.values(), ends, strict=True)
        if end * 10_000 + 1 < count < 10_000
    ]
    assert max(inside, default=0.0) - min(inside, default=0.0) < 0.02
    assert counts["l2"] <= counts["l1"] <= counts["l0"]


def test_by_sensitivity_goes_on_in_proportion_below_the_scan() -> None:
    layers = layers_of((100, 100), (50, 100), (10, 100))
    counts = SCAN.counts(layers, 0.05)
    assert counts == {"l0": 500, "l1": 250, "l2": 50}
    assert SCAN.counts(layers, 1.0) == {"l0": 10_000, "l1": 5_000, "l2": 1_000}


def test_by_sensitivity_reads_the_table_of_the_probe() -> None:
    def row(tensor: str, density: float, loss: float | None, accuracy: float) -> dict[str, object]:
        metrics = {"loss_change": {"mean": loss}, "accuracy_change": {"mean": accuracy}}
        return {"tensor": tensor, "density": density, "metrics": metrics}

    rows = [row("a", 0.1, 2.0, -0.3), row("a", 0.5, 1.0, -0.1), row("b", 0.5, 0.1, 0.0)]
    assert BySensitivity.of(rows).curves == {"a": ((0.5, 1.0), (0.1, 2.0)), "b": ((0.5, 0.1),)}
    by_accuracy = BySensitivity.of(rows, "accuracy_change").curves
    assert by_accuracy["a"] == ((0.5, 0.1), (0.1, 0.3))
    with pytest.raises(RecipeError, match=r"loss_change of 'c' at density 0.5 has no value"):
        BySensitivity.of([row("c", 0.5, None, 0.0)])


def test_by_sensitivity_refuses_a_network_it_has_not_scanned_and_broken_curves() -> None:
    with pytest.raises(RecipeError, match=r"no curve for \['l3'\]; it has \['l0', 'l1', 'l2'\]"):
        SCAN.counts(layers_of(*LENET, (2, 2)), 0.5)
    for curve in ((), ((0.1, 1.0), (0.5, 2.0)), ((1.0, 0.0),), ((0.5, math.nan),), ((0.0, 1.0),)):
        with pytest.raises(RecipeError, match="the curve of 'a' is"):
            BySensitivity(curves={"a": curve})
