"""Another control, trained for as long as finding the ticket took in all."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar

from tombola.errors import RecipeError
from tombola.pieces.schedule import round_half_up
from tombola.recipes.controls.control import Control, Drawn, Reference, unclaimed
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Train
from tombola.recipes.worlds import once, stretched, timed
from tombola.values.digest import digest
from tombola.world.optimiser import Stretched
from tombola.world.switched import Switched


@dataclass(frozen=True, kw_only=True)
class Longer:
    """The control `of`, trained for as many optimiser steps as the ticket took in all: from the
    initial values on, with every round before it.

    The learning-rate schedule and the interval between evaluations are stretched with the length,
    so that drops and warm-up keep their relative places and curves have as many readings. Beside a
    ticket rewound to step k it begins at the same relative place. Each round has a length of its
    own, so it stands beside rounds whatever `of` does.
    """

    beside: ClassVar[bool] = True

    of: Control

    @property
    def name(self) -> str:
        return f"{self.of.name}-longer"

    @property
    def summary(self) -> str:
        return f"as {self.of.name}, trained for as many steps as the ticket took in all"

    @property
    def claims(self) -> frozenset[str]:
        return self.of.claims | {"world", "until"}

    @property
    def sets(self) -> frozenset[str]:
        return self.of.sets | {"begin"}

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        drawn: tuple[Drawn, ...] = yield from self.of.trainings(reference)
        return tuple(replace(one, job=self._lengthened(one.job, reference)) for one in drawn)

    def _lengthened(self, job: Train, reference: Reference) -> Train:
        """The training with its steps, and those of the schedule before it, stretched."""
        steps, optimiser = reference.spent, job.world.optimiser
        if not 0 < job.steps < steps:
            raise RecipeError(
                f"arm {self.name!r}: a ticket of recipe {reference.recipe.name!r} takes {steps} "
                f"steps in all, {self.of.name!r} takes {job.steps}: there is nothing to lengthen. "
                "Leave the arm out."
            )
        if not (is_dataclass(optimiser) and "rate" in {field.name for field in fields(optimiser)}):
            raise RecipeError(
                f"arm {self.name!r}: the {type(optimiser).__name__} of world {job.world.name!r} "
                "is no dataclass with a field `rate`, so its schedule cannot be stretched. Give it "
                "one, or leave the arm out."
            )
        if isinstance(job.objective, Switched):
            raise RecipeError(
                f"arm {self.name!r}: the tickets of recipe {reference.recipe.name!r} change their "
                f"objective at step {job.objective.at}, which has no place in a longer training. "
                "Leave the arm out."
            )
        length = round_half_up(job.world.steps * steps / job.steps)
        begin = replace(job.begin, step=length - steps)
        return replace(job, world=stretched(job.world, length), begin=begin, until=length)

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        world, there = trained.world, reference.job.world
        assert world.evaluate_every is not None and there.evaluate_every is not None
        if trained.until != world.steps or trained.steps != reference.spent:
            return f"{self.name} takes {trained.steps} steps, the ticket {reference.spent} in all"
        times, rate = world.steps / there.steps, there.optimiser.rate
        if digest(world.optimiser.rate) != digest(Stretched(of=rate, times=times)):
            return f"{self.name} has other rates than the ticket's, stretched"
        if abs(world.evaluate_every - times * there.evaluate_every) > 0.5:
            return f"{self.name} is evaluated every {world.evaluate_every} steps"
        short = once(
            world,
            ["as long as", there.steps, there.evaluate_every, rate],
            lambda: timed(world, there.steps, rate, there.evaluate_every),
        )
        first = round_half_up(trained.begin.step / times)
        begin = replace(trained.begin, step=first)
        return unclaimed(
            self.of, reference, replace(trained, world=short, begin=begin, until=there.steps)
        )
