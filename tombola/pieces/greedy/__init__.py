"""Building a subnetwork up from nothing, a unit at a time."""

from tombola.pieces.greedy.contributions import Reading, contributions
from tombola.pieces.greedy.forward import Atoms, Selected, forward_selection
from tombola.pieces.greedy.rule import Aim, GreedySelection

__all__ = [
    "Aim",
    "Atoms",
    "GreedySelection",
    "Reading",
    "Selected",
    "contributions",
    "forward_selection",
]
