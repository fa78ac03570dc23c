"""RigL: drop the smallest weights, grow connections where the gradient is largest."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.dynamics.exchange import (
    check_exchange,
    due,
    exchanged,
    moved,
    never_moves,
    size_of,
    without_smallest,
)
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, count_of
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class RigL:
    """At every `every`-th step up to step T, an update takes the place of the optimiser step.

    T = `until` times the length of the training. In each tensor with something cut, the update at
    step t drops the c = int(f * connections) smallest |w|, f = drop/2 (1 + cos(pi t / T)), and
    grows the c largest |dL/dw| among all positions then unconnected, those just dropped included.
    The gradient is that of this step's batch. Ties keep, and grow, the lower index. The number of
    connections never changes.

    A new connection starts at +0.0 with its optimiser state 0. One dropped and grown in the same
    update keeps both. One that is gone is +0.0 with state 0. What the optimiser keeps for a tensor
    as a whole (Adam's step count) stays. A tensor without a gradient at this step stays as it is.

    Source: Evci et al. 2020 (arXiv 1911.11134), Algorithm 1, and the authors'
    `sparse_optimizers_base.py`. Differs from that code: there normal noise of 1e-5 is added to |w|,
    so a connected weight of 0 may lose its place to an unconnected one; updates may begin at step 0
    and do not advance the step counter, so each costs a batch beyond the training's length; the
    value and state of a dropped connection stay, unused, until it grows again.

    Raises:
        RecipeError: drop or until is not in (0, 1], or every is less than 1.

    Example:
        >>> [RigL().exchanged(1_000, step, 2_000) for step in (100, 750, 1_500)]
        [296, 150, 0]
    """

    moves: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False
    reads_gradients: ClassVar[bool] = True

    drop: float = 0.3
    every: int = 100
    until: float = 0.75

    def __post_init__(self) -> None:
        check_exchange(self)

    def refuses(self, setting: Setting) -> str | None:
        return never_moves(self, setting)

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({})

    def needs(self, state: Params, step: int, until: int) -> bool:
        return due(self, step, until)

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        found = {}
        for name, kept in moment.mask.items():
            found[name] = kept
            if name in moment.grads:
                count = self.exchanged(count_of(kept), step, moment.until)
                found[name] = regrown(moment.coords[name], moment.grads[name], kept, count)
        return moved(state, moment, step, found, replaces_step=True)

    def exchanged(self, connections: int, step: int, until: int) -> int:
        """How many of a tensor's connections the update at `step` drops and grows."""
        return exchanged(self, connections, step, until)


def regrown(weight: Tensor, gradient: Tensor, kept: Tensor, count: int) -> Tensor:
    """What is kept after the `count` smallest |w| have been dropped, and as many grown where
    |gradient| is largest."""
    staying = without_smallest(weight, kept, count)
    return staying | largest(size_of(gradient), ~staying, count)
