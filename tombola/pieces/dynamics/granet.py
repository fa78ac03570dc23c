"""GraNet: gradual magnitude pruning that also exchanges connections, by gradient."""

from dataclasses import dataclass, replace
from typing import ClassVar

from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.dynamics.ending import Ending, told
from tombola.pieces.dynamics.exchange import (
    check_exchange,
    check_parts,
    due,
    exchanged,
    last_of,
    moved,
    never_moves,
)
from tombola.pieces.dynamics.rigl import regrown
from tombola.pieces.schedule import round_half_up
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, count_of
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class GraNet:
    """Starts at density `start`, is cut along a cubic curve, and exchanges connections on the way.

    At every `every`-th step t up to T = `until` times the length, in place of the optimiser's:
    (1) of all weights in scope together those of largest |w| stay, k + (k0 - k)(1 - x)^3 of them,
    x = t / (`cut_by` T) and at most 1, k0 and k the numbers at the start and in the end; (2) each
    tensor with something cut drops and grows connections as in `RigL`. A target denser than `start`
    starts at its own density. With start 1, dense-to-sparse.

    Source: Liu et al. 2021 (arXiv 2106.10404), and the authors' `core.py`: start .5; drop .5 with a
    cosine; every 1,000 steps (CIFAR-10); cuts in the first 30 of 100 epochs (ImageNet). Differs:
    theirs moves after the step.

    Raises:
        RecipeError: start, cut_by, drop or until is not in (0, 1], or every is less than 1.
    """

    moves: ClassVar[bool] = True
    redistributes: ClassVar[bool] = True
    reads_gradients: ClassVar[bool] = True

    start: float = 0.5
    drop: float = 0.5
    every: int = 100
    until: float = 1.0
    cut_by: float = 0.3
    ending: Ending | None = None

    def __post_init__(self) -> None:
        check_exchange(self)
        check_parts(self, "start", "cut_by")

    def opening(self, density: float) -> float:
        return max(self.start, density)

    def ending_with(self, ending: Ending) -> "GraNet":
        return replace(self, ending=ending)

    def refuses(self, setting: Setting) -> str | None:
        return never_moves(self, setting) or self._too_early(setting.steps)

    def _too_early(self, steps: int) -> str | None:
        """Why the last cut would come before the first update, or after the last; or None."""
        cut_by = self.cut_by * last_of(self, steps)
        last = (min(last_of(self, steps), steps - 1) // self.every) * self.every
        if self.every <= cut_by <= last:
            return None
        return (
            f"GraNet(every={self.every}, cut_by={self.cut_by}, until={self.until}) is to be at its "
            f"target by step {cut_by:g} of {steps}, but its first update comes at step {self.every}"
            f" and its last at {last}; take a smaller `every`, or another `cut_by`."
        )

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({})

    def needs(self, state: Params, step: int, until: int) -> bool:
        return due(self, step, until)

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        found = told(self, self.ending).keep_together(
            moment.coords, moment.mask, self.kept(step, moment.until)
        )
        for name, kept in found.items():
            if name in moment.grads and not bool(kept.all()):
                count = exchanged(self, count_of(kept), step, moment.until)
                found[name] = regrown(moment.coords[name], moment.grads[name], kept, count)
        return moved(state, moment, step, found, replaces_step=True)

    def kept(self, step: int, until: int) -> int:
        """Weights of all tensors kept after the update at a step."""
        ending = told(self, self.ending)
        opened = round_half_up(self.opening(ending.total / ending.whole) * ending.whole)
        x = min(1.0, step / (self.cut_by * last_of(self, until)))
        return ending.total + round_half_up((opened - ending.total) * (1.0 - x) ** 3)
