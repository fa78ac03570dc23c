"""Forward selection against trying every atom, and against every multiset."""

from itertools import combinations_with_replacement

import pytest
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.greedy import Atoms, Reading, contributions, forward_selection
from tombola.values.rng import stream


def draw(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def atoms_of(phi: Tensor, y: Tensor) -> Atoms:
    """phi: (N, data)."""
    return Atoms(
        linear=phi @ y,
        squares=phi.square().sum(1),
        column=lambda i: phi @ phi[i],
        target=float(y @ y),
    )


def brute_force(phi: Tensor, y: Tensor, steps: int, repetition: bool = True) -> list[int]:
    """Try every atom at every step, the error of the mean written out."""
    order: list[int] = []
    for j in range(1, steps + 1):
        total = phi[order].sum(0)
        tried = {
            i: float(((total + phi[i]) / j - y).square().sum())
            for i in range(len(phi))
            if repetition or i not in order
        }
        order.append(min(tried, key=tried.__getitem__))
    return order


@pytest.mark.parametrize("repetition", [True, False])
@pytest.mark.parametrize("case", range(6))
def test_every_step_is_the_best_of_all(case: int, repetition: bool) -> None:
    phi, y = draw(f"phi {case}", 12, 7), draw(f"y {case}", 7)
    found = forward_selection(atoms_of(phi, y), 12, repetition=repetition)
    assert found.order.tolist() == brute_force(phi, y, 12, repetition)
    for j in range(1, 13):
        exact = float((phi[found.order[:j]].mean(0) - y).square().sum())
        assert float(found.errors[j - 1]) == pytest.approx(exact, abs=1e-10)
        assert int(found.counts(12, j).sum()) == j
    if not repetition:
        assert sorted(found.order.tolist()) == list(range(12))


def test_the_first_two_steps_beat_no_pair_that_shares_the_first() -> None:
    phi, y = draw("phi", 8, 5), draw("y", 5)
    first, second = forward_selection(atoms_of(phi, y), 2).order.tolist()
    pairs = [pair for pair in combinations_with_replacement(range(8), 2) if first in pair]
    errors = {p: float((phi[list(p)].mean(0) - y).square().sum()) for p in pairs}
    assert min(errors, key=errors.__getitem__) == tuple(sorted((first, second)))


def test_ties_go_to_the_lower_number() -> None:
    same = torch.ones(4, 3, dtype=torch.float64)
    assert forward_selection(atoms_of(same, torch.ones(3).double()), 3).order.tolist() == [0] * 3


def test_a_target_inside_the_hull_is_reached_faster_than_by_drawing() -> None:
    """A mean of k atoms drawn at random errs by V/k; this by no more than V/k^2."""
    phi = draw("inside", 400, 3)
    found = forward_selection(atoms_of(phi, torch.zeros(3).double()), 400)
    steps, spread = torch.arange(1, 401), float(phi.square().sum(1).mean())
    assert bool((found.errors <= spread / steps**2).all())


def test_it_ends_when_enough_different_ones_are_taken() -> None:
    phi, y = draw("phi", 30, 4), 0.1 * draw("y", 4)
    found = forward_selection(atoms_of(phi, y), 500, distinct=9)
    counts = found.counts(30)
    assert int((counts > 0).sum()) == 9 and int(counts.max()) > 1
    assert int((found.counts(30, len(found.order) - 1) > 0).sum()) == 8
    allowed = torch.arange(30) % 2 == 0
    some = forward_selection(atoms_of(phi, y), 20, among=allowed)
    assert all(i % 2 == 0 for i in some.order.tolist())


def test_impossible_selections_are_refused() -> None:
    atoms = atoms_of(draw("phi", 3, 2), draw("y", 2))
    for steps, repetition in ((0, True), (4, False)):
        with pytest.raises(RecipeError, match=f"{steps} steps from 3 atoms"):
            forward_selection(atoms, steps, repetition=repetition)


@pytest.mark.parametrize("taps", [1, 3])
def test_contributions_are_inner_products_of_what_units_add(taps: int) -> None:
    """taps: inputs of a unit, as the kernel positions of a channel."""
    units, outputs = 5, 4
    unit = torch.arange(units).repeat_interleave(taps)
    readings = [
        Reading(
            rows=draw(f"rows {n}", 11, units * taps),
            weight=draw(f"weight {n}", outputs, units * taps),
            unit=unit,
            target=draw(f"target {n}", 11, outputs),
        )
        for n in range(2)
    ]
    added = torch.stack(
        [
            torch.cat(
                [
                    units * (r.rows[:, unit == u] @ r.weight[:, unit == u].T).flatten()
                    for r in readings
                ]
            )
            for u in range(units)
        ]
    )
    y = torch.cat([r.target.flatten() for r in readings])
    atoms = contributions(readings, units, scale=float(units))
    torch.testing.assert_close(atoms.linear, added @ y)
    torch.testing.assert_close(atoms.squares, added.square().sum(1))
    for u in range(units):
        torch.testing.assert_close(atoms.column(u), added @ added[u])
    assert atoms.target == pytest.approx(float(y @ y))
    whole = torch.cat([(r.rows @ r.weight.T).flatten() for r in readings])
    torch.testing.assert_close(added.mean(0), whole)  # the layer is the mean of its atoms
    assert forward_selection(atoms, 9).order.tolist() == brute_force(added, y, 9)
