"""What a ticket must beat: arms that differ from it in exactly one thing.

A control takes the training of the ticket (`Reference`) and replaces what it claims. Every study
compares the two: a control that changed more, or nothing, stops it. One control a file.
"""

from tombola.pieces.allocation import ERK, Global
from tombola.recipes.controls.control import (
    Control,
    Drawn,
    Reference,
    control_loop,
    of_ticket,
    unclaimed,
)
from tombola.recipes.controls.dense import Dense
from tombola.recipes.controls.half_width import HalfWidth
from tombola.recipes.controls.inverted import Inverted
from tombola.recipes.controls.longer import Longer
from tombola.recipes.controls.random_mask import RandomMask
from tombola.recipes.controls.reinit import Reinit
from tombola.recipes.controls.shuffle import Shuffle
from tombola.recipes.controls.thin import Thin
from tombola.recipes.controls.uncut import Uncut

__all__ = [
    "CONTROLS",
    "Control",
    "Dense",
    "Drawn",
    "HalfWidth",
    "Inverted",
    "Longer",
    "RandomMask",
    "Reference",
    "Reinit",
    "Shuffle",
    "Thin",
    "Uncut",
    "control_loop",
    "of_ticket",
    "unclaimed",
]

_AS_LONG: tuple[Control, ...] = (
    Dense(),
    Reinit(),
    Shuffle(),
    RandomMask(
        name="random",
        summary="the ticket's initial values, as many weights at random places of the network",
        allocation=Global(),
    ),
    RandomMask(
        name="erk",
        summary="the ticket's initial values, as many weights at random places, small tensors "
        "denser (Erdős-Rényi kernel)",
        allocation=ERK(),
    ),
    Thin(),
    HalfWidth(),
)

CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (*_AS_LONG, Inverted(), Uncut(), *(Longer(of=control) for control in _AS_LONG))
}
