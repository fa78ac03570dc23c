"""One objective for the first part of a training, another for the rest."""

from dataclasses import dataclass, field

from tombola.errors import WorldError
from tombola.world.distillation import Distillation
from tombola.world.objective import CrossEntropy, Objective


@dataclass(frozen=True, kw_only=True)
class Switched:
    """`first` up to step `at` of the training, `then` from there on; optimiser state is kept.

    at: a step of the world's clock, so it stands still when a rewind moves the start. The default
    switches distillation off: early-stopped distillation of Ma et al. 2021 (arXiv 2101.03255), who
    drop it after 60 of 90 epochs on ImageNet.

    Example:
        >>> [(type(one).__name__, until) for one, until in Switched(at=60).stages(0, 90)]
        [('Distillation', 60), ('CrossEntropy', 90)]
        >>> [(type(one).__name__, until) for one, until in Switched(at=60).stages(70, 90)]
        [('CrossEntropy', 90)]

    Raises:
        WorldError: a step before the first.
    """

    at: int
    first: Objective = field(default_factory=Distillation)
    then: Objective = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        if not isinstance(self.at, int) or isinstance(self.at, bool) or self.at < 0:
            raise WorldError(f"Switched(at={self.at!r}): want a step of the training, 0 or more.")

    @property
    def given(self) -> frozenset[str]:
        """What either of the two must be handed."""
        return self.first.given | self.then.given

    def stages(self, begin: int, until: int) -> tuple[tuple[Objective, int], ...]:
        """Each objective that a training from `begin` to `until` has, and the step it has it to."""
        if self.at <= begin:
            return ((self.then, until),)
        if self.at >= until:
            return ((self.first, until),)
        return (self.first, self.at), (self.then, until)


def stages(
    objective: Objective | Switched, begin: int, until: int
) -> tuple[tuple[Objective, int], ...]:
    """The same for any objective; most have one stage."""
    if isinstance(objective, Switched):
        return objective.stages(begin, until)
    return ((objective, until),)
