"""Deep R: connections with a sign each; those that cross zero die, and others wake at random."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.dynamics.exchange import moved
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, count_of
from tombola.values.params import Params
from tombola.values.rng import stream

SIGNS = "signs/"


@dataclass(frozen=True, kw_only=True)
class DeepR:
    """Before every optimiser step: shrink, shake, let die what has crossed zero, wake as many.

    Each connection has a sign s that never changes, and a strength theta = s w. In each tensor with
    something cut, at every step: theta loses rate * penalty and gains sqrt(2 rate temperature)
    times normal noise; connections with theta < 0 become dormant; as many of all dormant ones,
    drawn evenly, wake at +0.0 with optimiser state 0. A woken connection of 0 is alive: it stays,
    and is trained, until it crosses zero. The first connections have the sign they start with,
    others one drawn by seed and tensor, the same whenever they wake. The optimiser's own step
    follows, on w.

    Source: Bellec et al. 2018 (arXiv 1711.05136), Algorithm 1. Differs: the number of connections
    is constant in each tensor; the gradient step is the world's optimiser's. The defaults of
    penalty and temperature are ours.

    Raises:
        RecipeError: a penalty or temperature below 0, or not finite.
    """

    moves: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False
    reads_gradients: ClassVar[bool] = False

    penalty: float = 1e-4
    temperature: float = 1e-9

    def __post_init__(self) -> None:
        for what in ("penalty", "temperature"):
            if not 0.0 <= getattr(self, what) < math.inf:
                raise RecipeError(f"DeepR({what}={getattr(self, what)}): want 0 or more.")

    def refuses(self, setting: Setting) -> str | None:
        return None

    def init(self, mask: Mask, params: Params) -> Params:
        """1 or -1 where there is a connection, 0 where the sign is still to be drawn."""
        return Params(
            {
                SIGNS + name: torch.where(params[name] < 0, -1, 1).to(torch.int8) * kept
                for name, kept in mask.items()
            }
        )

    def needs(self, state: Params, step: int, until: int) -> bool:
        return True

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        found, alive, signs, values = {}, {}, {}, {}
        for name, kept in moment.mask.items():
            sign = state[SIGNS + name]
            values[name] = self._shaken(sign, kept, moment, step, name)
            alive[name] = kept & ~(values[name] * sign < 0)
            woken = _woken(~alive[name], count_of(kept & ~alive[name]), moment.seed, step, name)
            found[name] = alive[name] | woken
            signs[SIGNS + name] = _with_signs(sign, woken, moment.seed, name)
        # One that dies and wakes in the same step starts anew.
        return moved(
            state.replaced(signs),
            moment,
            step,
            found,
            replaces_step=False,
            stays=alive,
            values={name: v.to(moment.coords[name].device) for name, v in values.items()},
        )

    def _shaken(self, sign: Tensor, kept: Tensor, moment: Moment, step: int, name: str) -> Tensor:
        """Weights after the penalty's pull to zero and the noise."""
        generator = stream(moment.seed, "deep-r noise", step, name)
        noise = torch.randn(count_of(kept), generator=generator)
        pull = noise * math.sqrt(2.0 * moment.rate * self.temperature) - moment.rate * self.penalty
        shaken = moment.coords[name].detach().cpu().clone()
        shaken[kept] += sign[kept] * pull.to(shaken.dtype)
        return shaken


def _woken(dormant: Tensor, count: int, seed: int, step: int, name: str) -> Tensor:
    """`count` of the dormant positions, drawn evenly."""
    woken = torch.zeros_like(dormant).reshape(-1)
    if count:
        places = dormant.reshape(-1).nonzero().squeeze(1)
        order = torch.randperm(len(places), generator=stream(seed, "deep-r", step, name))
        woken[places[order[:count]]] = True
    return woken.reshape(dormant.shape)


def _with_signs(sign: Tensor, woken: Tensor, seed: int, name: str) -> Tensor:
    """Signs, with those of positions that wake for the first time."""
    first = woken & (sign == 0)
    if not bool(first.any()):
        return sign
    positive = torch.rand(sign.shape, generator=stream(seed, "deep-r signs", name)) < 0.5
    return torch.where(first, torch.where(positive, 1, -1).to(torch.int8), sign)
