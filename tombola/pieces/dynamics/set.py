"""SET: drop the smallest weights, grow connections at random."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.dynamics.exchange import (
    check_exchange,
    due,
    exchanged,
    moved,
    never_moves,
    without_smallest,
)
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, count_of
from tombola.values.params import Params
from tombola.values.rng import stream


@dataclass(frozen=True, kw_only=True)
class SET:
    """RigL that grows at random: no gradient of an unconnected position is ever needed.

    When, how many, and what becomes of values and optimiser state: as in `RigL`. The places are
    drawn among all positions unconnected after the drop, those just dropped included, by seed, step
    and tensor.

    Source: Mocanu et al. 2018 (arXiv 1707.04780), as compared with RigL by Evci et al. 2020 (arXiv
    1911.11134). Differs from the former: it drops a constant fraction of 0.3 of the positive and of
    the negative weights apart, once an epoch, to the end of training; for a constant number of
    connections, masks that move until the end, and longer between updates (in-time
    over-parameterisation: `every` 1,500 on CIFAR-10, drop 0.5) see Liu et al. 2021 (arXiv
    2102.02887).

    Raises:
        RecipeError: drop or until is not in (0, 1], or every is less than 1.
    """

    moves: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False
    reads_gradients: ClassVar[bool] = False

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
            count = exchanged(self, count_of(kept), step, moment.until)
            staying = without_smallest(moment.coords[name], kept, count)
            draw = torch.rand(kept.shape, generator=stream(moment.seed, "set", step, name))
            found[name] = staying | largest(draw, ~staying, count)
        return moved(state, moment, step, found, replaces_step=True)
