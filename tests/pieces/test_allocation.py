"""How a density is shared out, against worked values and a slow twin."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.pieces.allocation import ERK, Global, Uniform
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


def layers_of(*shapes: Shape) -> tuple[Layer, ...]:
    return tuple(
        Layer(name=f"l{i}", shape=shape, kind="linear", rate=0.8) for i, shape in enumerate(shapes)
    )


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
    assert abs(sum(ERK().counts(layers, density).values()) - density * total) <= len(layers) / 2


@settings(deadline=None)
@given(
    shapes=st.lists(
        st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6
    ),
    density=st.integers(1, 1000).map(lambda n: Fraction(n, 1000)),
)
def test_erk_equals_a_slow_twin(shapes: list[Shape], density: Fraction) -> None:
    layers = layers_of(*shapes)
    expected = twin(shapes, density)
    found = ERK().densities(layers, float(density))
    assert list(found.values()) == pytest.approx([float(share) for share in expected])
    counts = ERK().counts(layers, float(density))
    for layer, share in zip(layers, expected, strict=True):
        assert abs(counts[layer.name] - share * layer.count) <= Fraction(1, 2) + Fraction(1, 10**6)


def test_erk_makes_all_that_attain_the_maximum_dense() -> None:
    small, large = (10, 10), (100, 100)
    found = ERK().densities(layers_of(small, large, small), 0.2)
    assert found == {"l0": 1.0, "l1": pytest.approx((0.2 * 10_200 - 200) / 10_000), "l2": 1.0}


@pytest.mark.parametrize("allocation", [ERK(), Uniform()])
@pytest.mark.parametrize("shapes", [LENET, CONV4, ((7, 3),)])
def test_density_one_keeps_everything(allocation: ERK | Uniform, shapes: tuple[Shape, ...]) -> None:
    layers = layers_of(*shapes)
    assert allocation.counts(layers, 1.0) == {layer.name: layer.count for layer in layers}


def test_a_single_tensor_gets_the_density_itself() -> None:
    assert ERK().counts(layers_of((10, 30)), 0.37) == {"l0": 111}


def test_a_density_may_leave_a_tensor_nothing() -> None:
    layers = layers_of((300, 784), (4, 2))
    assert ERK().counts(layers, 1e-5) == {"l0": 2, "l1": 0}
    assert Uniform().counts(layers, 1e-5) == {"l0": 2, "l1": 0}


def test_uniform_rounds_half_up_in_each_tensor() -> None:
    assert Uniform().counts(layers_of((5,), (3, 3), (4, 4)), 0.5) == {"l0": 3, "l1": 5, "l2": 8}


def test_global_asks_for_one_total() -> None:
    assert Global().counts(layers_of((5,), (3, 3), (4, 4)), 0.5) == 15
    assert Global().counts(layers_of(*LENET), 0.1122) == round(0.1122 * 266_200)
