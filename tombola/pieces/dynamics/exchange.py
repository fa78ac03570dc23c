"""Dropping and growing connections: what the dynamics that exchange them have in common."""

import math
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.dynamics.record import noted
from tombola.pieces.schedule import round_half_up
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask, count_of, cut_to_zero
from tombola.values.params import Params


class Exchanging(Protocol):
    """A dynamics that exchanges connections at every `every`-th step up to step T.

    T = `until` times the length of the training. drop: the fraction exchanged at step 0; it falls
    to 0 at T, by a cosine.
    """

    @property
    def drop(self) -> float: ...

    @property
    def every(self) -> int: ...

    @property
    def until(self) -> float: ...


def check_exchange(piece: Exchanging) -> None:
    """Raise RecipeError unless drop and until are fractions, and every a number of steps."""
    name = type(piece).__name__
    check_parts(piece, "drop", "until")
    if piece.every < 1:
        raise RecipeError(f"{name}(every={piece.every}): want a number of steps, 1 or more.")


def check_parts(piece: object, *fields: str) -> None:
    """Raise RecipeError unless these fields are fractions over 0, at most 1."""
    for what in fields:
        if not 0.0 < getattr(piece, what) <= 1.0:
            raise RecipeError(
                f"{type(piece).__name__}({what}={getattr(piece, what)}): want a fraction, over 0, "
                "at most 1."
            )


def never_moves(piece: Exchanging, setting: Setting) -> str | None:
    """Why the first update would never come, or None."""
    last = last_of(piece, setting.steps)
    if piece.every <= last:
        return None
    return (
        f"{type(piece).__name__}(every={piece.every}, until={piece.until}) would never move the "
        f"mask of a training of {setting.steps} steps: its first update would come at step "
        f"{piece.every}, its last may be at {last}. Take a smaller `every`."
    )


def due(piece: Exchanging, step: int, until: int) -> bool:
    """Whether the step is one of those at which connections are exchanged."""
    return step > 0 and step % piece.every == 0 and step <= last_of(piece, until)


def exchanged(piece: Exchanging, connections: int, step: int, until: int) -> int:
    """How many of a tensor's connections the update at `step` drops and grows."""
    wave = 1.0 + math.cos(math.pi * step / last_of(piece, until))
    return int(piece.drop / 2.0 * wave * connections)


def last_of(piece: Exchanging, until: int) -> int:
    """T: no update after this step."""
    return round_half_up(piece.until * until)


def without_smallest(weight: Tensor, kept: Tensor, count: int) -> Tensor:
    """What stays of `kept` when its `count` smallest |w| are dropped."""
    return largest(size_of(weight), kept, count_of(kept) - count)


def size_of(tensor: Tensor) -> Tensor:
    """Absolute values; NaN counts as infinite, so that counts stay exact in a training that is
    diverging."""
    return tensor.abs().nan_to_num(nan=math.inf, posinf=math.inf).cpu()


def moved(
    state: Params,
    moment: Moment,
    step: int,
    found: Mapping[str, Tensor],
    *,
    replaces_step: bool,
    stays: Mapping[str, Tensor] | None = None,
    values: Mapping[str, Tensor] | None = None,
) -> Move:
    """The move to new masks of some tensors, noted down in the state; others stay as they are.

    found: bool, what is kept of each tensor named. A connection there before and after keeps its
    value and its optimiser state, one dropped and grown in the same update too. One that is new, or
    gone, is +0.0 with state 0. What the optimiser keeps for a tensor as a whole (Adam's step count)
    stays. stays: what keeps value and state, where that is otherwise. values: in place of those of
    the moment.
    """
    before = {name: moment.mask.of(name, kept.shape) for name, kept in found.items()}
    if stays is None:
        stays = {name: before[name] & kept for name, kept in found.items()}
    values = moment.coords if values is None else values
    return Move(
        mask=Mask({**dict(moment.mask.items()), **found}),
        coords={name: cut_to_zero(values[name], kept) for name, kept in stays.items()},
        slots={
            key: cut_to_zero(slot, stays[name])
            for key, slot in moment.slots.items()
            if (name := key.partition("/")[2]) in stays and slot.shape == stays[name].shape
        },
        replaces_step=replaces_step,
        state=noted(state, step, before, found),
    )
