"""Equal budgets: a control trained for as many steps as finding the ticket took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from drive import drive
from toy import small_world

import tombola as tb
from tombola.errors import CheckError, RecipeError
from tombola.lab.checks import _same_exposure, checks_of, expected_exposure
from tombola.lab.engines.inline import Inline
from tombola.lab.plan import plan
from tombola.lab.question import Question
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.lab.study import arms_of
from tombola.pieces.rewind import Untrained
from tombola.pieces.schedule import DENSE, Densities
from tombola.recipes import IMP, SNIP, Dense, Longer, Recipe, Reinit, Round, Thin
from tombola.recipes.controls import CONTROLS, Control, control_loop, of_ticket, unclaimed
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Train
from tombola.recipes.worlds import stretched
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.optimiser import SGD, Adam, Constant, Drops, Stretched, WarmUp
from tombola.world.world import World, initial_params

RATE = WarmUp(steps=8, then=Drops(at=(20, 30)))
WORLD = small_world(optimiser=Adam(lr=1e-2, rate=RATE))
RECIPE = IMP.up_to(2)
REWOUND = replace(RECIPE, rewind=tb.ToStep(step=15))


def trained(control: Control, recipe: Recipe = RECIPE, world: World = WORLD) -> tuple[Round, ...]:
    return drive(control_loop(control, recipe, world, 0))


def test_dense_is_trained_as_in_a_world_of_that_length() -> None:
    """Three trainings of 40 steps find the ticket of round 2."""
    (turn,) = trained(CONTROLS["dense-longer"])
    rate = Stretched(of=RATE, times=3.0)
    world = replace(
        WORLD, steps=120, evaluate_every=15, optimiser=Adam(lr=1e-2, rate=rate), thin=None
    )
    (dense,) = trained(Dense(), world=world)
    assert turn.job.steps == 120 == turn.spent
    assert turn.end.params.digest == dense.end.params.digest
    assert turn.end.metrics == dense.end.metrics
    assert (turn.target.round, turn.target.density) == (2, 1.0)
    assert turn.job.mask.digest == FULL.digest
    (short,) = trained(Dense())
    assert len(turn.end.readings) == len(short.end.readings) == 8
    assert [r["step"] for r in turn.end.readings] == [3 * r["step"] for r in short.end.readings]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name in CONTROLS if name.endswith("-longer")])
def test_each_takes_what_the_ticket_took_in_all(name: str, number: int) -> None:
    recipe = IMP.up_to(number)
    spent = drive(recipe.loop(recipe, WORLD, 0))[-1].spent
    for turn in trained(CONTROLS[name], recipe):
        assert turn.job.steps == turn.end.step == spent == 40 * (number + 1)
        assert turn.job.until == turn.job.world.steps
        assert turn.target.round == number
        assert turn.end.metrics["test_accuracy"] is not None


def test_drops_and_warm_up_keep_their_places() -> None:
    (turn,) = trained(CONTROLS["reinit-longer"])
    rate = turn.job.world.optimiser.rate
    found = [rate.factor(step, 120) for step in range(120)]
    assert found == [RATE.factor(step // 3, 40) for step in range(120)]
    assert found[59] == 1.0 and found[60] == 0.1  # half-way, as the drop at 20 of 40


def test_beside_a_rewound_ticket_it_begins_at_the_same_place_of_the_schedule() -> None:
    (turn,) = trained(CONTROLS["reinit-longer"], REWOUND)
    # 40 + 25 + 25 steps for 25: 3.6 times as long, from step 54 of 144.
    assert (turn.job.begin.step, turn.job.until, turn.job.steps) == (54, 144, 90)
    assert turn.job.world.optimiser.rate == Stretched(of=RATE, times=3.6)
    assert turn.job.world.evaluate_every == 18
    (dense,) = trained(CONTROLS["dense-longer"], REWOUND)
    assert (dense.job.begin.step, dense.job.until) == (0, 90)
    assert dense.job.world.evaluate_every == 11  # 5 x 2.25, to the nearest


def test_draws_are_those_of_the_control_it_lengthens() -> None:
    short, long = trained(Reinit(draws=2)), trained(Longer(of=Reinit(draws=2)))
    assert [turn.draw for turn in long] == [0, 1]
    for one, other in zip(short, long, strict=True):
        assert one.job.begin.params.digest == other.job.begin.params.digest
        assert one.job.mask.digest == other.job.mask.digest


# -- what is wrong is said -----------------------------------------------------------------------


def otherwise(job: Train, **changes: Any) -> Train:
    return replace(job, world=replace(job.world, **changes))


def rated(job: Train, **changes: Any) -> Train:
    return otherwise(job, optimiser=replace(job.world.optimiser, **changes))


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        (lambda job: replace(job, until=119), "takes 119 steps, the ticket 120 in all"),
        (lambda job: replace(job, begin=replace(job.begin, step=1)), "takes 119 steps"),
        (lambda job: rated(job, rate=RATE), "has other rates than the ticket's, stretched"),
        (lambda job: rated(job, rate=Stretched(of=Constant(), times=3.0)), "has other rates"),
        (lambda job: rated(job, rate=Stretched(of=RATE, times=2.9)), "has other rates"),
        (lambda job: rated(job, lr=2e-2), "also changed ['world']"),
        (lambda job: otherwise(job, evaluate_every=5), "is evaluated every 5 steps"),
        (lambda job: otherwise(job, batch_size=10), "also changed ['world']"),
        (lambda job: otherwise(job, margin=0.5), None),  # says nothing of the training
        (lambda job: replace(job, seed=1), "also changed ['seed']"),
        (lambda job: replace(job, mask=FULL), "also changed ['mask']"),
    ],
)
def test_one_that_is_something_else_is_named(bend: Callable[[Train], Train], says: Any) -> None:
    control = CONTROLS["reinit-longer"]
    ticket = drive(RECIPE.loop(RECIPE, WORLD, 0))[-1]
    reference = of_ticket(RECIPE, ticket, initial_params(WORLD, 0), WORLD)
    (turn,) = trained(control)
    assert unclaimed(control, reference, turn.job) is None
    wrong = unclaimed(control, reference, bend(turn.job))
    assert wrong is None if says is None else wrong is not None and says in wrong


def test_what_the_inner_control_claims_is_checked_too() -> None:
    ticket = drive(RECIPE.loop(RECIPE, WORLD, 0))[-1]
    reference = of_ticket(RECIPE, ticket, initial_params(WORLD, 0), WORLD)
    (turn,) = trained(CONTROLS["shuffle-longer"])
    idle = replace(turn.job, mask=reference.job.mask)
    assert "left ['mask']" in str(unclaimed(CONTROLS["shuffle-longer"], reference, idle))
    (thin,) = trained(Longer(of=Thin()))
    whole = otherwise(thin.job, model=WORLD.model)
    assert "left ['world']" in str(unclaimed(CONTROLS["thin-longer"], reference, whole))
    smaller = otherwise(thin.job, batch_size=10)
    assert "other ['batch_size']" in str(unclaimed(CONTROLS["thin-longer"], reference, smaller))


@dataclass(frozen=True, kw_only=True)
class Plain:
    """An optimiser whose rate is no field."""

    lr: float = 0.1

    @property
    def rate(self) -> Constant:
        return Constant()

    def build(self, tensors: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(tensors, lr=self.lr)


ONCE = replace(SNIP, rule=tb.ByScore(score=tb.Saliency(batch_size=60)), schedule=Densities())


@pytest.mark.parametrize(
    ("recipe", "world", "message"),
    [
        (
            ONCE,
            WORLD,
            r"arm 'dense-longer': a ticket of recipe 'snip' takes 40 steps in all, 'dense' takes "
            r"40: there is nothing to lengthen\. Leave the arm out\.",
        ),
        (
            RECIPE,
            small_world(optimiser=Plain()),
            r"arm 'dense-longer': the Plain of world 'toy' is no dataclass with a field `rate`",
        ),
    ],
    ids=["grow", "optimiser"],
)
def test_what_cannot_be_lengthened_is_refused_before_anything_is_trained(
    recipe: Recipe, world: World, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Question(recipe=recipe, world=world, seeds=(0,), arms=arms_of(("dense", "dense-longer")))


def test_a_ticket_that_is_not_trained_has_nothing_to_lengthen() -> None:
    recipe = replace(RECIPE, rewind=Untrained())
    with pytest.raises(RecipeError, match=r"'reinit-longer'.*'reinit' takes 0: there is nothing"):
        trained(CONTROLS["reinit-longer"], recipe)


# -- in a study ----------------------------------------------------------------------------------


def test_a_plan_counts_its_steps(tmp_path: Any) -> None:
    question = Question(
        recipe=IMP.up_to(3),
        world=WORLD,
        seeds=(0, 1),
        arms=arms_of(("dense", "dense-longer", "reinit-longer")),
        controls_at="all",
    )
    store = Store(tmp_path / "s")
    planned = plan(question, store, timed=False)
    # Per seed: four trainings of the ticket, and two arms beside rounds 1, 2 and 3.
    assert planned["steps"]["to_train"] == 2 * (4 * 40 + 2 * (80 + 120 + 160))
    study = tb.find(
        question.recipe,
        WORLD,
        seeds=2,
        arms=("dense", "dense-longer", "reinit-longer"),
        controls_at="all",
        store=store,
    )
    assert study.document["cost"]["steps_trained"] == planned["steps"]["to_train"]
    rows = [row for row in study.rows if row["arm"] == "dense-longer"]
    assert [(row["round"], row["density"], row["kept"]) for row in rows] == [
        (1, 1.0, 192),
        (2, 1.0, 192),
        (3, 1.0, 192),
    ]
    assert study.checks["arms_paired"] is True


def test_trainings_of_one_length_must_have_seen_the_same(tmp_path: Any) -> None:
    question = Question(
        recipe=RECIPE,
        world=WORLD,
        seeds=(0,),
        arms=arms_of(("dense", "thin", "dense-longer", "thin-longer")),
    )
    store = Store(tmp_path / "s")
    rounds = Runner(store, Inline(store)).drive(question.loops())
    assert checks_of(question, rounds)["arms_paired"] is True
    for name in ("thin", "thin-longer"):
        trial, (turn,) = next((t, x) for t, x in rounds.items() if t.arm == name and t.round == 2)
        seen = expected_exposure(turn.job.world, 0, turn.job.until)
        assert int(turn.end.exposure, 16) == seen
        forged = replace(turn, end=replace(turn.end, exposure="0" * 32))
        with pytest.raises(CheckError, match=rf"end at step {turn.job.until} have not seen"):
            checks_of(question, {**rounds, trial: (forged,)})


def test_a_late_start_is_filled_up_with_what_its_own_world_shows() -> None:
    """Two lengths, each begun at step 0 and at step 15: the rates before step 15 differ."""
    init, turns = initial_params(WORLD, 0), []
    for world in (WORLD, stretched(WORLD, 120)):
        for first in (15, 0):
            begin = Point(init, None, first)
            job = Train(world, 0, begin, FULL, world.steps, world.objective)
            end = job.run(NoDesk())
            turns.append(Round(target=DENSE, job=job, end=end, spent=job.steps))
    _same_exposure(0, turns)


def test_a_row_that_was_never_reached_still_says_how_large_the_network_is(tmp_path: Any) -> None:
    world = small_world(optimiser=SGD(lr=1e30))
    study = tb.find(RECIPE, world, seeds=1, arms=("dense", "dense-longer"), store=tmp_path / "s")
    rows = [row for row in study.rows if row["arm"] == "dense-longer"]
    assert rows and all((row["kept"], row["density"]) == (192, 1.0) for row in rows)
    assert all(row["metrics"]["test_accuracy"]["values"] == [None] for row in rows)
