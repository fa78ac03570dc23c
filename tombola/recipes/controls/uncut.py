"""The ticket's training with nothing cut: its start and its objective on the whole network."""

from dataclasses import dataclass, replace
from typing import ClassVar

from tombola.pieces.schedule import Target
from tombola.recipes.controls.control import Drawn, Reference
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Train
from tombola.values.mask import FULL


@dataclass(frozen=True, kw_only=True)
class Uncut:
    """The whole network, from the ticket's start, under the ticket's objective.

    Where a ticket learns from a teacher, or starts from other weights, `dense` differs from it in
    that too; this differs in the mask alone. So it tells what the objective gives to any network
    from what it gives to a sparse one.
    """

    name: ClassVar[str] = "uncut"
    summary: ClassVar[str] = "the ticket's start and objective, nothing cut"
    claims: ClassVar[frozenset[str]] = frozenset({"mask"})
    sets: ClassVar[frozenset[str]] = frozenset()
    beside: ClassVar[bool] = True

    def trainings(self, reference: Reference) -> Loop[tuple[Drawn, ...]]:
        yield from ()
        target = Target(round=reference.target.round, density=1.0)
        return (Drawn(job=replace(reference.job, mask=FULL), target=target),)

    def amiss(self, reference: Reference, trained: Train) -> str | None:
        cut = trained.mask.load().names
        return f"{self.name} cuts {sorted(cut)}" if cut else None
