"""Building a subnetwork up from nothing, a unit at a time."""

from tombola.pieces.greedy.contributions import Reading, contributions
from tombola.pieces.greedy.forward import Atoms, Selected, forward_selection

__all__ = ["Atoms", "Reading", "Selected", "contributions", "forward_selection"]
