"""Sparse networks from scratch: grow where the gradient's momentum is, and move weights there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
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
from tombola.pieces.schedule import round_half_up
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, count_of
from tombola.values.params import Params

MOMENTUM = "momentum/"
FULLEST = 0.99  # of the free places of a tensor, at most


@dataclass(frozen=True, kw_only=True)
class SNFS:
    """An average of dense gradients says where to grow, and which tensor is given how much.

    The average m = decay * m + (1 - decay) * dL/dw is taken at every step, of all positions of each
    tensor with something cut. Updates come as in `RigL` and take the place of the step. Each tensor
    drops its c = int(f * connections) smallest |w|; what all have dropped together is shared out in
    proportion to the mean |m| of each tensor's connections before the drop, at most 99 % of its
    free places, what is over going to the others; each grows its share where |m| is largest. So
    the number of connections of all tensors together never changes, to the weight. Values and
    optimiser state as in `RigL`.

    Source: Dettmers & Zettlemoyer 2019 (arXiv 1907.04840), and the authors' `core.py`. Differs: m
    is an average of its own, whatever the optimiser (theirs is its buffer, unmasked); theirs moves
    once an epoch, after the step; theirs rounds each share up, and leads the total back by an error
    term. Without the sharing out, see the code of Evci et al. 2020.

    Raises:
        RecipeError: drop or until is not in (0, 1], every is less than 1, or decay not in [0, 1).
    """

    moves: ClassVar[bool] = True
    redistributes: ClassVar[bool] = True
    reads_gradients: ClassVar[bool] = True

    drop: float = 0.5
    every: int = 100
    until: float = 1.0
    decay: float = 0.9

    def __post_init__(self) -> None:
        check_exchange(self)
        if not 0.0 <= self.decay < 1.0:
            raise RecipeError(f"SNFS(decay={self.decay}): want 0 up to, not including, 1.")

    def refuses(self, setting: Setting) -> str | None:
        return never_moves(self, setting)

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({MOMENTUM + name: torch.zeros_like(params[name]) for name in mask.names})

    def needs(self, state: Params, step: int, until: int) -> bool:
        return True

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        averages = self._averages(state, moment)
        state = state.replaced({MOMENTUM + name: average for name, average in averages.items()})
        if not due(self, step, moment.until):
            return Move(mask=moment.mask, state=state)
        sizes = {name: size_of(averages[name]) for name in moment.mask.names}
        staying, dropped = {}, 0
        for name, kept in moment.mask.items():
            count = exchanged(self, count_of(kept), step, moment.until)
            staying[name] = without_smallest(moment.coords[name], kept, count)
            dropped += count
        means = {
            name: float(sizes[name][kept].mean()) if bool(kept.any()) else 0.0
            for name, kept in moment.mask.items()
        }
        free = {name: count_of(~kept) for name, kept in staying.items()}
        grown = shared_out(dropped, means, free)
        found = {
            name: kept | largest(sizes[name], ~kept, grown[name]) for name, kept in staying.items()
        }
        return moved(state, moment, step, found, replaces_step=True)

    def _averages(self, state: Params, moment: Moment) -> dict[str, Tensor]:
        """Those of dense gradients, this step's included; of a tensor without one, the old."""
        found = {}
        for name in moment.mask.names:
            found[name] = state[MOMENTUM + name]
            if name in moment.grads:
                gradient = moment.grads[name].to(found[name].device)
                found[name] = found[name].lerp(gradient, 1.0 - self.decay)
        return found


def shared_out(total: int, parts: Mapping[str, float], free: Mapping[str, int]) -> dict[str, int]:
    """A total in whole numbers, in proportion to parts, none over 99 % of what is free.

    What is over goes to the others, in the same proportion; ties to the earlier. Parts that are all
    zero, or not finite, count as equal. Where 99 % of everything is not enough, all may be taken.

    >>> shared_out(10, {"a": 3.0, "b": 1.0, "c": 1.0}, {"a": 4, "b": 90, "c": 90})
    {'a': 3, 'b': 4, 'c': 3}
    """
    most = {name: int(FULLEST * count) for name, count in free.items()}
    if sum(most.values()) < total:
        most = dict(free)
    sound = all(0.0 <= part < float("inf") for part in parts.values())
    top = max(parts.values(), default=0.0) if sound else 0.0
    # The least part lets what is over go somewhere when all the rest of the tensors have none.
    part = {name: max(parts[name] / top, 1e-9) if top > 0.0 else 1.0 for name in parts}

    def at(setting: float) -> dict[str, int]:
        return {name: min(most[name], round_half_up(part[name] * setting)) for name in part}

    low, high = 0.0, (total + 1.0) * 1e9
    while low < (middle := (low + high) / 2) < high:
        if sum(at(middle).values()) < total:
            low = middle
        else:
            high = middle
    shares, more = at(low), at(high)
    for name in part:
        if sum(shares.values()) < total:
            shares[name] += more[name] > shares[name]
    return shares
