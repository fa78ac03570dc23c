"""A training at one step, complete: all that is needed to go on as if it had never stopped."""

from dataclasses import dataclass, field

from tombola.values.mask import FULL, Mask
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Validation metrics at a step."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Leg:
    """Where a training stands.

    coords: everything trained or held, copies. slots: optimiser state. mask, state: of the
    dynamics. readings: the validation curve so far. best, best_mask, best_step: coordinates, mask
    and step of least validation loss. exposure: sum over steps of a digest of what the step saw
    (`exposure_of`). diverged_at: where weights or loss were found not finite. checks: what the
    start of the training was found to satisfy. executor: which one made the steps; why_dense: why
    the plain one did where another was asked for, or looked at.
    """

    step: int
    coords: Params
    slots: Params
    mask: Mask = FULL
    state: Params = field(default_factory=lambda: Params({}))
    readings: tuple[Reading, ...] = ()
    best: Params | None = None
    best_mask: Mask | None = None
    best_step: int | None = None
    exposure: int = 0
    diverged_at: int | None = None
    checks: dict[str, bool | None] = field(default_factory=dict)
    executor: str = "dense"
    why_dense: str | None = None
