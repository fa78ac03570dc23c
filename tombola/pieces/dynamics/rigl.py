"""RigL: drop the smallest weights, grow connections where the gradient is largest."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.schedule import round_half_up
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, cut_to_zero
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

    drop: float = 0.3
    every: int = 100
    until: float = 0.75

    def __post_init__(self) -> None:
        for what in ("drop", "until"):
            if not 0.0 < getattr(self, what) <= 1.0:
                raise RecipeError(
                    f"RigL({what}={getattr(self, what)}): want a fraction, over 0, at most 1."
                )
        if self.every < 1:
            raise RecipeError(f"RigL(every={self.every}): want a number of steps, 1 or more.")

    def refuses(self, setting: Setting) -> str | None:
        if self.every <= self._last(setting.steps):
            return None
        return (
            f"RigL(every={self.every}, until={self.until}) would never move the mask of a "
            f"training of {setting.steps} steps: its first update would come at step "
            f"{self.every}, its last may be at {self._last(setting.steps)}. Take a smaller "
            "`every`."
        )

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({})

    def needs(self, state: Params, step: int, until: int) -> bool:
        return step > 0 and step % self.every == 0 and step <= self._last(until)

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        found, stays = {}, {}
        for name, kept in moment.mask.items():
            found[name] = kept
            if name in moment.grads:
                count = self.exchanged(int(kept.sum()), step, moment.until)
                found[name] = _moved(moment.coords[name], moment.grads[name], kept, count)
            stays[name] = kept & found[name]
        return Move(
            mask=Mask(found),
            coords={name: cut_to_zero(moment.coords[name], kept) for name, kept in stays.items()},
            slots={
                key: cut_to_zero(slot, stays[name])
                for key, slot in moment.slots.items()
                if (name := key.partition("/")[2]) in stays and slot.shape == stays[name].shape
            },
            replaces_step=True,
            state=state,
        )

    def exchanged(self, connections: int, step: int, until: int) -> int:
        """How many of a tensor's connections the update at `step` drops and grows."""
        wave = 1.0 + math.cos(math.pi * step / self._last(until))
        return int(self.drop / 2.0 * wave * connections)

    def _last(self, until: int) -> int:
        """T: no update after this step."""
        return round_half_up(self.until * until)


def _moved(weight: Tensor, gradient: Tensor, kept: Tensor, count: int) -> Tensor:
    """What is kept after `count` connections have been dropped and as many grown."""
    staying = largest(_size(weight), kept, int(kept.sum()) - count)
    return staying | largest(_size(gradient), ~staying, count)


def _size(tensor: Tensor) -> Tensor:
    """Absolute values; NaN counts as infinite, so that counts stay exact in a training that is
    diverging."""
    return tensor.abs().nan_to_num(nan=math.inf, posinf=math.inf).cpu()
