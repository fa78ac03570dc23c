"""Masks that move during training."""

from tombola.pieces.dynamics.ac_dc import ACDC
from tombola.pieces.dynamics.deep_r import DeepR
from tombola.pieces.dynamics.dynamics import Dynamics, Moment, Move, Static
from tombola.pieces.dynamics.ending import Ending, Thinning
from tombola.pieces.dynamics.gradual import Gradual
from tombola.pieces.dynamics.granet import GraNet
from tombola.pieces.dynamics.record import COLUMNS, moves_of
from tombola.pieces.dynamics.rigl import RigL
from tombola.pieces.dynamics.set import SET
from tombola.pieces.dynamics.snfs import SNFS

__all__ = [
    "ACDC",
    "COLUMNS",
    "SET",
    "SNFS",
    "DeepR",
    "Dynamics",
    "Ending",
    "GraNet",
    "Gradual",
    "Moment",
    "Move",
    "RigL",
    "Static",
    "Thinning",
    "moves_of",
]
