"""AC/DC: phases of sparse and of dense training in turn."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from tombola.errors import RecipeError
from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.dynamics.ending import Ending, told
from tombola.pieces.dynamics.exchange import check_parts, moved
from tombola.pieces.schedule import round_half_up
from tombola.pieces.setting import Setting
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class ACDC:
    """Dense for a while; then sparse and dense in turn; sparse at the end.

    warm_up, phase, final: fractions of the training's length, for the dense start, for each phase
    between, the first of them sparse, and for the sparse end. Where a sparse phase begins, the
    largest |w| stay, as many as the target asks for, the rest is +0.0 with optimiser state 0; where
    a dense one begins, all are trained again, from there. The optimiser's step follows.

    Source: Peste et al. 2021 (arXiv 2106.12379), alternating compressed and decompressed training.
    The default lengths are those of 10, 5 and 15 of 100 epochs, from memory of the paper; theirs
    also makes the last dense phase longer.

    Raises:
        RecipeError: a fraction that is none, or no room for a dense phase between two sparse ones.

    Example:
        >>> ["sparse" if ACDC().sparse(t, 100) else "dense" for t in (9, 10, 15, 20, 84, 99)]
        ['dense', 'sparse', 'dense', 'sparse', 'sparse', 'sparse']
    """

    moves: ClassVar[bool] = True
    reads_gradients: ClassVar[bool] = False

    warm_up: float = 0.1
    phase: float = 0.05
    final: float = 0.15
    ending: Ending | None = None

    def __post_init__(self) -> None:
        check_parts(self, "warm_up", "phase", "final")
        if self.warm_up + 2 * self.phase + self.final > 1.0:
            raise RecipeError(
                f"ACDC(warm_up={self.warm_up}, phase={self.phase}, final={self.final}): want a "
                "start, two phases and an end that together are at most 1."
            )

    @property
    def redistributes(self) -> bool:
        return self.ending is not None and isinstance(self.ending.asked, int)

    def opening(self, density: float) -> float:
        return 1.0

    def ending_with(self, ending: Ending) -> "ACDC":
        return replace(self, ending=ending)

    def refuses(self, setting: Setting) -> str | None:
        if round_half_up(self.phase * setting.steps) >= 1:
            return None
        return (
            f"ACDC(phase={self.phase}) has phases of less than a step in a training of "
            f"{setting.steps}; take a larger one."
        )

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({})

    def needs(self, state: Params, step: int, until: int) -> bool:
        return step > 0 and self.sparse(step, until) != self.sparse(step - 1, until)

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        ending = told(self, self.ending)
        if self.sparse(step, moment.until):
            found = ending.keep(moment.coords, FULL, 0.0)
        else:
            found = {la.name: torch.ones(la.shape, dtype=torch.bool) for la in ending.layers}
        return moved(state, moment, step, found, replaces_step=False)

    def sparse(self, step: int, until: int) -> bool:
        """Whether a step is one of a sparse phase."""
        begin = round_half_up(self.warm_up * until)
        length = max(1, round_half_up(self.phase * until))
        if step < begin:
            return False
        return (
            step >= until - round_half_up(self.final * until) or (step - begin) // length % 2 == 0
        )
