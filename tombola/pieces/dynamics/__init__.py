"""Masks that move during training."""

from tombola.pieces.dynamics.dynamics import Dynamics, Moment, Move, Static
from tombola.pieces.dynamics.rigl import RigL

__all__ = ["Dynamics", "Moment", "Move", "RigL", "Static"]
