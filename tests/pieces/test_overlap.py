"""The overlap of large weights: against the definition written out, and what it must be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.pieces.overlap import by_chance, displacement, overlap
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.rng import stream

SHAPES = {"a": (7, 5), "b": (40,), "c": (3, 2, 2, 2)}
LAYERS = [Layer(name=n, shape=s, kind="linear", rate=0.8) for n, s in SHAPES.items()]


def network(seed: int) -> dict[str, torch.Tensor]:
    """Values from -5 to 5, half of them whole, so that ties are common."""
    found = {}
    for name, shape in SHAPES.items():
        values = 10 * torch.rand(shape, generator=stream(seed, "overlap", name)) - 5
        found[name] = torch.where(values > 0, values, values.round())
    return found


def some_mask(seed: int) -> Mask:
    return Mask(
        {n: torch.rand(s, generator=stream(seed, "mask", n)) < 0.6 for n, s in SHAPES.items()}
    )


def slow(first, second, mask, share) -> float:
    """Liu et al. 2021 by sets of places: for each layer the places sorted by magnitude."""
    common = taken = 0
    for layer in LAYERS:
        kept = mask.of(layer.name, layer.shape).flatten().tolist()
        places = [place for place, keep in enumerate(kept) if keep]
        count = int(share * len(places) + 0.5)

        def largest(of, places=places, name=layer.name, count=count) -> set[int]:
            values = of[name].flatten().tolist()
            return set(sorted(places, key=lambda at: (-abs(values[at]), at))[:count])

        common += len(largest(first) & largest(second))
        taken += count
    return common / taken


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("mask", [FULL, some_mask(3)])
def test_it_is_the_definition(share: float, mask: Mask) -> None:
    for seed in range(5):
        one, other = network(seed), network(seed + 10)
        assert overlap(one, other, LAYERS, mask, share) == slow(one, other, mask, share)


@given(st.integers(0, 1000), st.floats(0.02, 1.0))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_with_itself_it_is_one_and_it_is_symmetric(seed: int, share: float) -> None:
    one, other, mask = network(seed), network(seed + 1), some_mask(seed)
    assert overlap(one, one, LAYERS, mask, share) in (1.0, None)
    there, back = (overlap(*two, LAYERS, mask, share) for two in ((one, other), (other, one)))
    assert there == back
    scaled = {name: -3 * tensor for name, tensor in one.items()}
    assert overlap(scaled, other, LAYERS, mask, share) == there  # of magnitudes, by layer


def test_where_weights_are_permuted_it_is_what_chance_says() -> None:
    """Mean over permutations, within four standard errors."""
    layer = Layer(name="w", shape=(50,), kind="linear", rate=0.8)
    one, found = {"w": torch.arange(50.0)}, []
    for draw in range(400):
        order = torch.randperm(50, generator=stream(draw, "permuted"))
        value = overlap(one, {"w": one["w"][order]}, [layer], FULL, 0.25)
        assert value is not None
        found.append(value)
    expected = by_chance([layer], FULL, 0.25)  # 13 of 50
    assert expected == 13 / 50
    spread = float(torch.tensor(found).std()) / 400**0.5
    assert abs(sum(found) / 400 - expected) < 4 * spread


def test_cut_weights_do_not_count() -> None:
    """A pair that agrees on the kept weights alone overlaps wholly."""
    mask = some_mask(1)
    one, other = network(1), network(2)
    for layer in LAYERS:
        kept = mask.of(layer.name, layer.shape)
        other[layer.name] = torch.where(kept, one[layer.name], 100 * other[layer.name])
    assert overlap(one, other, LAYERS, mask, 0.3) == 1.0
    assert displacement(one, other, LAYERS, mask) == 0.0
    assert overlap(one, other, LAYERS, FULL, 0.3) < 1.0  # type: ignore[operator]


def test_where_nothing_is_taken_there_is_no_number() -> None:
    layer = Layer(name="w", shape=(2,), kind="linear", rate=0.8)
    one = {"w": torch.ones(2)}
    assert overlap(one, one, [layer], FULL, 0.1) is None
    assert by_chance([layer], FULL, 0.1) is None
    nothing = Mask({"w": torch.zeros(2, dtype=torch.bool)})
    assert overlap(one, one, [layer], nothing, 0.5) is None
    assert displacement(one, one, [layer], nothing) is None


def test_displacement_is_relative_to_the_first() -> None:
    layer = Layer(name="w", shape=(2,), kind="linear", rate=0.8)
    one, other = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 14.0])}
    assert displacement(one, other, [layer], FULL) == 2.0
