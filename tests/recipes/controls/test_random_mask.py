"""Random masks: as many weights as the ticket, anywhere, or by the densities of a kernel."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from drive import drive
from toy import small_world

from tombola.errors import CheckError
from tombola.pieces.allocation import ERK, Allocation, Global, Uniform
from tombola.recipes import IMP, RandomMask
from tombola.recipes.controls import CONTROLS, Reference, control_loop, of_ticket, unclaimed
from tombola.recipes.controls.random_mask import DrawMask
from tombola.recipes.job import NoDesk
from tombola.testing import check_control
from tombola.values.digest import digest
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.world.world import initial_params

WORLD, RECIPE = small_world(), IMP.up_to(3)
SHAPES = {"a": (3, 4), "b": (2, 4)}
LAYERS = tuple(
    Layer(name=name, shape=shape, kind="linear", rate=0.8) for name, shape in SHAPES.items()
)


def draw(mask: Mask, allocation: Allocation, seed: int = 0, number: int = 1) -> Mask:
    job = DrawMask(mask=mask, layers=LAYERS, allocation=allocation, seed=seed, round=number)
    done = job.run(NoDesk())
    assert done.checks == {"mask_nested": None, "count_exact": True}
    assert done.kept == {la.name: done.mask.load().kept(la.name, la.count) for la in LAYERS}
    return done.mask.load()


@pytest.fixture(scope="module")
def reference() -> Reference:
    ticket = drive(RECIPE.loop(RECIPE, WORLD, 0))[-1]
    return of_ticket(RECIPE, ticket, initial_params(WORLD, 0), WORLD)


@pytest.mark.parametrize("name", ["random", "erk"])
def test_as_many_weights_as_the_ticket_on_its_initial_values(
    name: str, reference: Reference
) -> None:
    (turn,) = drive(control_loop(CONTROLS[name], RECIPE, WORLD, 0))
    size = sum(reference.cut.kept.values())
    assert sum(turn.cut.kept.values()) == size == sum(turn.end.kept.values())
    assert turn.cut.kept != reference.cut.kept
    if name == "erk":
        assert turn.cut.kept == ERK().counts(WORLD.layers, size / 192)
    assert turn.job.begin.params.digest == reference.job.begin.params.digest
    assert turn.target == reference.target
    assert unclaimed(CONTROLS[name], reference, turn.job) is None


def test_places_are_drawn_evenly_from_all_weights() -> None:
    """Each of 20 places is kept with probability 6/20: standard deviation of the mean .0072."""
    mask, runs = Mask({"a": torch.arange(12).reshape(3, 4) < 6, "b": torch.zeros(2, 4) > 0}), 4_000
    total = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    together = 0
    for seed in range(runs):
        found = draw(mask, Global(), seed)
        for name, shape in SHAPES.items():
            total[name] += found.of(name, shape).float()
        together += bool(found.of("a", (3, 4))[0, 0]) and bool(found.of("b", (2, 4))[1, 3])
    assert sum(float(part.sum()) for part in total.values()) == 6 * runs
    for part in total.values():
        assert float((part / runs - 0.3).abs().max()) < 5 * 0.0072
    pair = (6 / 20) * (5 / 19)  # two places at once: drawn without replacement
    assert abs(together / runs - pair) < 5 * (pair * (1 - pair) / runs) ** 0.5


def test_places_inside_a_tensor_are_drawn_evenly() -> None:
    mask, runs = Mask({"a": torch.arange(12).reshape(3, 4) < 2}), 2_000
    total = torch.zeros(3, 4)
    for seed in range(runs):
        found = draw(mask, Uniform(), seed)
        assert (found.kept("a", 12), found.kept("b", 8)) == (6, 4)
        total += found["a"].float()
    assert float((total / runs - 0.5).abs().max()) < 5 * 0.0112


def test_draws_depend_on_seed_and_round_alone() -> None:
    mask = Mask({"a": torch.arange(12).reshape(3, 4) < 6})
    other = Mask({"b": torch.arange(8).reshape(2, 4) < 2})  # as many, elsewhere
    for allocation in (Global(), ERK()):
        one = draw(mask, allocation)
        assert draw(mask, allocation).digest == one.digest == draw(other, allocation).digest
        assert draw(mask, allocation, seed=1).digest != one.digest
        assert draw(mask, allocation, number=2).digest != one.digest


def test_a_small_mask_is_drawn_again_until_it_is_another() -> None:
    layer = Layer(name="a", shape=(2,), kind="linear", rate=0.8)
    mask = Mask({"a": torch.tensor([True, False])})
    for seed in range(20):
        for allocation in (Global(), Uniform()):
            job = DrawMask(mask=mask, layers=(layer,), allocation=allocation, seed=seed, round=1)
            assert job.run(NoDesk()).mask.load()["a"].tolist() == [False, True]
    for whole in (FULL, Mask({"a": torch.zeros(2, dtype=torch.bool)})):
        job = DrawMask(mask=whole, layers=(layer,), allocation=Global(), seed=0, round=1)
        assert job.run(NoDesk()).mask.load().digest == whole.digest


def test_a_generator_that_never_gives_another_is_an_error(monkeypatch: Any) -> None:
    mask = Mask({"a": torch.tensor([True, False])})
    layer = Layer(name="a", shape=(2,), kind="linear", rate=0.8)
    monkeypatch.setattr(torch, "randperm", lambda count, generator: torch.arange(count))
    job = DrawMask(mask=mask, layers=(layer,), allocation=Global(), seed=0, round=4)
    with pytest.raises(CheckError, match=r"the mask of round 4 is never rearranged in 100 draws"):
        job.run(NoDesk())


def test_a_random_mask_of_another_size_is_named(reference: Reference) -> None:
    random, (turn,) = CONTROLS["random"], drive(control_loop(CONTROLS["random"], RECIPE, WORLD, 0))
    names = dict(turn.job.mask.load().items())
    first = names["layers.0.weight"].clone()
    first.view(-1)[int(first.view(-1).int().argmax())] = False
    fewer = Mask({**names, "layers.0.weight": first})
    wrong = unclaimed(random, reference, replace(turn.job, mask=fewer))
    size = 192 - sum(reference.cut.kept.values())
    assert wrong == f"random cuts {size + 1} weights, the ticket {size}"
    assert "left ['mask']" in str(unclaimed(random, reference, reference.job))
    assert "also changed ['begin']" in str(
        unclaimed(random, reference, replace(turn.job, begin=replace(turn.job.begin, step=1)))
    )


def test_ones_own_allocation_makes_another_control() -> None:
    uniform = RandomMask(name="uniform", summary="the same density", allocation=Uniform())
    check_control(uniform, RECIPE, WORLD)
    assert digest(uniform) == digest(replace(uniform, name="even", summary=""))
    assert digest(uniform) != digest(replace(uniform, allocation=ERK()))
