"""The ticket's mask on fresh initial values."""

from dataclasses import dataclass, replace
from typing import ClassVar

from tombola.errors import RecipeError
from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Train
from tombola.values.point import Point


@dataclass(frozen=True, kw_only=True)
class Reinit:
    """The ticket's mask on fresh initial values, drawn `draws` times for each seed.

    Source: Frankle & Carbin 2019 (arXiv 1803.03635), section 1 (three draws a trial there). The
    clock starts where the ticket's does, so that both see the same data and learning rates.

    Raises:
        RecipeError: fewer than one draw.
    """

    name: ClassVar[str] = "reinit"
    summary: ClassVar[str] = "the ticket's mask on fresh initial values"
    claims: ClassVar[frozenset[str]] = frozenset({"begin"})
    sets: ClassVar[frozenset[str]] = frozenset()
    beside: ClassVar[bool] = True

    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise RecipeError(f"Reinit(draws={self.draws}): want at least one draw.")

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        job = reference.job
        fresh = yield tuple(Init(job.world, job.seed, draw + 1) for draw in range(self.draws))
        begins = [Point(one.params, None, job.begin.step) for one in fresh]
        return tuple(
            Drawn(job=replace(job, begin=begin), target=reference.target, cut=reference.cut)
            for begin in begins
        )

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        if trained.begin.step != reference.job.begin.step:
            return f"{self.name} starts at another step than the ticket"
        if trained.begin.slots is not None:
            return f"{self.name} starts with optimiser state"
        return None
