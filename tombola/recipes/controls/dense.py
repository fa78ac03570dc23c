"""The whole network."""

from dataclasses import dataclass, replace
from typing import ClassVar

from tombola.pieces.schedule import DENSE
from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Train
from tombola.values.mask import FULL
from tombola.values.point import Point


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The whole network, trained once from its initial values: round 0."""

    name: ClassVar[str] = "dense"
    summary: ClassVar[str] = "the whole network"
    claims: ClassVar[frozenset[str]] = frozenset()
    sets: ClassVar[frozenset[str]] = frozenset(
        {"mask", "begin", "objective", "given", "parametrisation", "dynamics"}
    )
    beside: ClassVar[bool] = False

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        world, seed = reference.job.world, reference.job.seed
        start = yield Init(world, seed)
        begin = Point(start.params, None, 0)
        job = Train(world, seed, begin, FULL, world.steps, world.objective)
        return (Drawn(job=job, target=replace(DENSE, round=reference.target.round)),)

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        return whole_from_the_start(self.name, trained)


def whole_from_the_start(name: str, trained: Train) -> str | None:
    """What is wrong with the training of a whole network, or None."""
    if trained.mask.digest != FULL.digest:
        return f"{name} cuts weights"
    if trained.begin.step or trained.begin.slots is not None:
        return f"{name} starts at step {trained.begin.step}, want its initial values"
    return None
