"""One objective and then another, against trainings in a row and against each alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from drive import drive
from toy import small_world

from tombola.errors import RecipeError, WorldError
from tombola.pieces.rewind import ToStep
from tombola.pieces.schedule import Densities
from tombola.recipes import KD_REWIND, KD_TICKET, Longer, Recipe, Reinit, Shuffle
from tombola.recipes.controls import control_loop
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Train, Trained
from tombola.train.leg import Leg
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.distillation import Distillation
from tombola.world.objective import CrossEntropy, Objective
from tombola.world.optimiser import SGD
from tombola.world.switched import Switched, stages
from tombola.world.world import initial_params

WORLD = small_world(optimiser=SGD(lr=0.1, momentum=0.9))
T = WORLD.steps
SOFT, HARD = Distillation(weight=0.8), CrossEntropy()


def job(objective: Objective | Switched, begin: Point | None = None, until: int = T) -> Train:
    start = Point(initial_params(WORLD, 0), None, 0)
    given = {"teacher": initial_params(WORLD, 9)} if objective.given else {}
    return Train(WORLD, 0, begin or start, FULL, until, objective, given)


def trained(*args: Any, **kwargs: Any) -> Trained:
    return job(*args, **kwargs).run(NoDesk())


def test_switching_equals_two_trainings_in_a_row_bit_for_bit() -> None:
    whole = trained(Switched(at=25, first=SOFT))
    first = trained(SOFT, until=25)
    second = trained(HARD, first.point)
    assert whole.params.digest == second.params.digest
    assert whole.metrics["test_accuracy"] == second.metrics["test_accuracy"]
    assert whole.readings == [*first.readings, *second.readings]
    assert len({whole.params.digest, trained(SOFT).params.digest, trained(HARD).params.digest}) == 3


@pytest.mark.parametrize(("at", "alone"), [(0, HARD), (T, SOFT), (T + 5, SOFT)])
def test_switched_before_the_start_or_at_the_end_is_one_objective(
    at: int, alone: Objective
) -> None:
    assert trained(Switched(at=at, first=SOFT)).params.digest == trained(alone).params.digest


@pytest.mark.parametrize("stop", [10, 25, 33])
def test_a_switched_training_continues_bit_for_bit_wherever_it_was_stopped(stop: int) -> None:
    switched = Switched(at=25, first=SOFT)
    whole, part = trained(switched), trained(switched, until=stop)
    assert trained(switched, part.point).params.digest == whole.params.digest


class Drawer(NoDesk):
    """Keeps one leg, and hands it out again."""

    leg: Leg | None = None

    def resume(self, trajectory: str, begin: int, until: int) -> Leg | None:
        return self.leg

    def keep(self, trajectory: str, leg: Leg, pinned: bool) -> None:
        self.leg = leg


@pytest.mark.parametrize("stop", [10, 25, 33])
def test_a_switched_training_resumes_in_the_stage_it_was_in(stop: int) -> None:
    switched, desk = Switched(at=25, first=SOFT), Drawer()
    job(switched, until=stop).run(desk)
    assert desk.leg is not None and desk.leg.step == stop
    ticks: list[int] = []
    desk.tick = lambda done, metrics: ticks.append(done)  # type: ignore[method-assign]
    resumed, whole = job(switched).run(desk), trained(switched)
    assert resumed.params.digest == whole.params.digest
    assert resumed.metrics == whole.metrics and resumed.readings == whole.readings
    assert ticks == sorted(ticks) and stop < ticks[0] <= ticks[-1] == T


def test_stages_follow_the_clock() -> None:
    switched = Switched(at=25, first=SOFT, then=HARD)
    assert switched.stages(0, 40) == ((SOFT, 25), (HARD, 40))
    assert switched.stages(25, 40) == ((HARD, 40),)
    assert switched.stages(0, 25) == ((SOFT, 25),)
    assert stages(HARD, 3, 40) == ((HARD, 40),)
    assert switched.given == {"teacher"}


def soft_end(recipe: Recipe) -> str:
    """Digest of the ticket that is distilled throughout."""
    throughout = replace(recipe, retrain=Distillation())
    return drive(throughout.loop(throughout, WORLD, 0))[-1].end.params.digest


def test_a_distilled_ticket_that_is_switched_off_has_controls_that_are_too() -> None:
    recipe = replace(KD_TICKET, schedule=Densities(values=(0.5,)), retrain=Switched(at=20))
    ticket = drive(recipe.loop(recipe, WORLD, 0))[-1]
    assert ticket.end.params.digest != soft_end(recipe)
    for control in (Shuffle(), Reinit()):
        (turn,) = drive(control_loop(control, recipe, WORLD, 0))
        assert turn.job.objective == recipe.retrain
        assert turn.job.given["teacher"].digest == ticket.job.given["teacher"].digest
    with pytest.raises(RecipeError, match=r"arm 'reinit-longer': .* change their objective at st"):
        drive(control_loop(Longer(of=Reinit()), recipe, WORLD, 0))


@pytest.mark.parametrize(
    ("recipe", "at", "message"),
    [
        (KD_TICKET, T + 1, rf"Switched\(at={T + 1}\) .* retraining, 0 to {T}, .* want 1 to {T}"),
        (KD_TICKET, 0, r"Switched\(at=0\) changes the objective"),
        (replace(KD_REWIND, rewind=ToStep(step=15)), 15, rf"retraining, 15 to {T}, .* want 16 to"),
    ],
)
def test_a_switch_that_retraining_never_reaches_is_refused(
    recipe: Recipe, at: int, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(recipe, retrain=Switched(at=at)).check(WORLD)


@pytest.mark.parametrize("at", [-1, 1.5, True, None])
def test_steps_that_are_none_are_refused(at: Any) -> None:
    with pytest.raises(WorldError, match=r"Switched\(at=.*\): want a step of the training"):
        Switched(at=at)


def test_the_objective_that_is_trained_with_is_handed_what_it_asks_for_alone() -> None:
    asked: list[Mapping[str, Any]] = []

    class Noting:
        """Cross-entropy that notes what it is given."""

        given = frozenset[str]()
        metrics = HARD.metrics
        digest = "noting"

        def loss(self, call: Any, batch: Any, given: Mapping[str, Any]) -> torch.Tensor:
            asked.append(dict(given))
            return HARD.loss(call, batch, given)

        penalty, check_targets = HARD.penalty, HARD.check_targets

    trained(Switched(at=25, first=SOFT, then=Noting()))
    assert asked == [{}] * (T - 25)
