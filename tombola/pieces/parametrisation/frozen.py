"""Cut weights stay in the network, at the values they start with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, cut_to_zero
from tombola.values.params import Params

FROZEN = "frozen/"


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Kept weights are trained; cut weights are frozen where training starts, not zero.

    The network's own tensor holds the kept weights, +0.0 where cut, and is trained as any ticket's;
    a second one, `frozen/<name>`, holds the others and is not. The network computes with their sum.
    Weight decay and penalties see the trained weights alone. Every run checks that the cut weights
    of the finished network are the ones it started with, bit for bit.

    With a plain rewind those are the initial values, or those of the step rewound to; `Restarting`
    gives others. Source: Zhou, Lan, Liu & Yosinski 2019 (arXiv 1905.01067), section 4.
    """

    finds_mask: ClassVar[bool] = False
    cuts_to_zero: ClassVar[bool] = False
    redistributes: ClassVar[bool] = False

    def refuses(self, setting: Setting) -> str | None:
        return None

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        own = mask.apply(params)
        frozen = {FROZEN + name: cut_to_zero(params[name], ~kept) for name, kept in mask.items()}
        return own.replaced(frozen)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in names if not name.startswith(FROZEN))

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        return {name: coords[name] + coords[FROZEN + name] for name in mask.names}

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        own = Params({name: t for name, t in coords.items() if not name.startswith(FROZEN)})
        both = {
            name: torch.where(kept.to(own[name].device), own[name], coords[FROZEN + name])
            for name, kept in mask.items()
        }
        return own.replaced(both), mask
