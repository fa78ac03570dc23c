"""The thin network: the widest of at most as many weights, in the ticket's world but for it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from drive import drive
from torch import nn
from toy import small_world

import tombola as tb
from tombola.errors import RecipeError
from tombola.lab.question import Question
from tombola.pieces.schedule import Densities
from tombola.pieces.scope import Scope
from tombola.recipes import IMP, SNIP, Recipe, Thin
from tombola.recipes.controls import Reference, control_loop, of_ticket, unclaimed
from tombola.recipes.controls.thin import thinned
from tombola.testing import toy_net
from tombola.values.mask import FULL, Mask
from tombola.values.point import Point
from tombola.world.models import LeNet
from tombola.world.world import World, initial_params

WORLD, RECIPE = small_world(), IMP.up_to(3)
ALL = Scope()


def size_of(world: World, scope: Scope = ALL) -> int:
    return sum(layer.count for layer in scope.select(world.layers))


def widths(first: int, second: int) -> int:
    """Weights of 6-first-second-3."""
    return 6 * first + first * second + second * 3


def all_sizes() -> dict[int, tuple[int, int]]:
    """Every network that some factor gives: both widths change where a factor of theirs is half a
    unit past a whole one."""
    edges = sorted({0.0, 1.0, *((k + 0.5) / w for w in (12, 8) for k in range(w))})
    found = {}
    for low, high in pairwise(edges):
        middle = (low + high) / 2
        first, second = (max(1, round(middle * width)) for width in (12, 8))
        found[widths(first, second)] = (first, second)
    return found


def test_the_widest_network_that_fits_is_found() -> None:
    sizes = all_sizes()
    assert len(sizes) == 19 and max(sizes) == size_of(WORLD) == 192
    for size in range(10, 200):
        first, second = sizes[max(fits for fits in sizes if fits <= size)]
        network = thinned(WORLD, ALL, size).new_network(0)
        assert [layer.out_features for layer in network.layers] == [first, second, 3]


class Wide(nn.Module):
    """Two layers side by side, of 5,000 and 4,999 units times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        first, second = round(5_000 * factor), round(4_999 * factor)
        self.first, self.second = nn.Linear(6, first), nn.Linear(6, second)
        self.last = nn.Linear(first + second, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.first(inputs), self.second(inputs)], dim=1)
        return self.last(both.relu())


def test_widths_in_the_thousands_are_told_apart_to_a_unit() -> None:
    # 3.5 / 5,000 and 3.5 / 4,999 are a seven-millionth apart: 4 and 3 units lie between them.
    world = small_world(model=Wide, thin=Wide)
    for units, size in ((6, 54), (6, 62), (7, 63), (7, 71), (8, 72)):
        assert size_of(thinned(world, ALL, size)) == 9 * units


def test_equal_sizes_are_one_world_made_once() -> None:
    one = thinned(WORLD, ALL, 100)
    assert thinned(WORLD, ALL, 100) is one
    fits = [size for size in range(60, 110) if size_of(thinned(WORLD, ALL, size)) == size_of(one)]
    assert len({thinned(WORLD, ALL, size).digest for size in fits}) == 1 < len(fits)
    assert thinned(WORLD, ALL, 150).digest != one.digest


def test_what_is_out_of_scope_does_not_count() -> None:
    scope = Scope(exclude=("layers.2.*",))
    for size in (50, 100, 150):
        found = thinned(WORLD, scope, size)
        assert size_of(found, scope) <= size < size_of(found, ALL) + 30
    unpruned = small_world(unpruned=("layers.2.*",))
    whole = size_of(unpruned)
    assert whole == 192 - 24
    assert size_of(thinned(unpruned, ALL, 100)) == size_of(thinned(WORLD, scope, 100), scope)


# -- as a control --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> Reference:
    ticket = drive(RECIPE.loop(RECIPE, WORLD, 0))[-1]
    return of_ticket(RECIPE, ticket, initial_params(WORLD, 0), WORLD)


def trained(recipe: Recipe = RECIPE, world: World = WORLD) -> Any:
    (turn,) = drive(control_loop(Thin(), recipe, world, 0))
    return turn


def test_it_trains_as_its_own_world_does_on_the_same_data(reference: Reference) -> None:
    turn = trained()
    size = sum(reference.cut.kept.values())
    world = turn.job.world
    assert size_of(world) <= size
    assert turn.target.density == size_of(world) / 192
    assert turn.job.mask.digest == FULL.digest
    assert turn.end.exposure == drive(RECIPE.loop(RECIPE, WORLD, 0))[-1].end.exposure
    (dense,) = drive(control_loop(tb.recipes.Dense(), RECIPE, world, 0))
    assert dense.end.params.digest == turn.end.params.digest
    assert unclaimed(Thin(), reference, turn.job) is None


def test_beside_a_rewound_ticket_it_starts_at_the_beginning() -> None:
    recipe = replace(RECIPE, rewind=tb.ToStep(step=15))
    assert (trained(recipe).job.begin.step, trained(recipe).end.began) == (0, 0)


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        (lambda job: replace(job, world=replace(job.world, batch_size=10)), "other ['batch_size']"),
        (lambda job: replace(job, world=replace(job.world, steps=41)), "other ['steps']"),
        (
            lambda job: replace(job, world=replace(job.world, optimiser=tb.Adam(lr=2e-2))),
            "other ['optimiser']",
        ),
        (
            lambda job: replace(job, world=replace(job.world, train=job.world.validation)),
            "other ['train']",
        ),
        (lambda job: replace(job, world=replace(WORLD, model=lambda: toy_net(1.0))), "has 192"),
        (lambda job: replace(job, world=WORLD), "left ['world']"),
        (lambda job: replace(job, seed=1), "also changed ['seed']"),
        (lambda job: replace(job, until=30), "also changed ['until']"),
        (lambda job: replace(job, begin=Point(job.begin.params, None, 2)), "starts at step 2"),
        (
            lambda job: replace(
                job, mask=Mask({"layers.2.weight": torch.zeros(3, 5, dtype=torch.bool)})
            ),
            "thin cuts weights",
        ),
    ],
)
def test_one_that_is_something_else_is_named(
    reference: Reference, bend: Callable[[Any], Any], says: str
) -> None:
    wrong = unclaimed(Thin(), reference, bend(trained().job))
    assert wrong is not None and says in wrong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"thin": None},
            r"world 'toy' does not say how.*World\(thin=\.\.\.\) a function that takes",
        ),
        (
            {"thin": lambda factor: toy_net(factor / 2)},
            r"\(thin\)\(1\).*has 72 weights.*network 192",
        ),
        (
            {"thin": lambda factor: 3},
            r"World\(thin\)\(1\) returned a int; want a torch\.nn\.Module",
        ),
        (
            {"thin": lambda factor: toy_net(max(factor, 0.6))},
            r"ticket keeps 58 weights, the thinnest network of world 'toy' has 92",
        ),
    ],
)
def test_a_world_that_has_no_such_network_is_refused_before_anything_is_trained(
    changes: dict[str, Any], message: str
) -> None:
    world, arms = small_world(judged_density=0.3, **changes), {"thin": Thin()}
    recipe = replace(SNIP, rule=tb.ByScore(score=tb.Saliency(batch_size=60)), schedule=Densities())
    with pytest.raises(RecipeError, match=message):
        Question(
            recipe=recipe,
            world=world,
            seeds=(0,),
            arms={"dense": tb.recipes.Dense(), **arms},
        )


# -- in a study ----------------------------------------------------------------------------------


def asked(world: World, *arms: str) -> Question:
    from tombola.lab.study import arms_of

    return Question(recipe=RECIPE, world=world, seeds=(0,), arms=arms_of(("dense", *arms)))


def thinner(factor: float) -> nn.Module:
    return LeNet(6, max(1, int(12 * factor)), max(1, int(8 * factor)), 3)


def test_the_study_is_named_by_thin_where_it_is_asked_for() -> None:
    other = replace(WORLD, thin=thinner)
    assert other.digest == WORLD.digest
    for arms in ((), ("reinit",), ("dense-longer",)):
        assert asked(WORLD, *arms).digest == asked(other, *arms).digest
    for arms in (("thin",), ("thin-longer",)):
        assert asked(WORLD, *arms).digest != asked(other, *arms).digest
        assert asked(WORLD, *arms).digest == asked(small_world(), *arms).digest


def test_its_row_says_how_many_weights_it_really_has(tmp_path: Any) -> None:
    study = tb.find(RECIPE, WORLD, seeds=2, arms=("dense", "thin"), store=tmp_path / "s")
    rows = {row["round"]: row for row in study.rows if row["arm"] == "thin"}
    tickets = {row["round"]: row for row in study.rows if row["arm"] == "ticket"}
    assert set(rows) == {1, 2, 3} & set(tickets)
    for number, row in rows.items():
        wanted = max(size for size in all_sizes() if size <= tickets[number]["kept"])
        assert (row["kept"], row["total"], row["density"]) == (wanted, 192, wanted / 192)
    assert study.checks["arms_paired"] is True
    network = study.model(arm="thin", seed=1, round=3)
    assert sum(layer.weight.numel() for layer in network.layers) == rows[3]["kept"]
    with torch.no_grad():
        right = (network(WORLD.test.inputs).argmax(1) == WORLD.test.targets).double().mean()
    assert rows[3]["metrics"]["test_accuracy"]["values"][1] == pytest.approx(float(right))
