"""What is trained, and what the network computes with."""

from tombola.pieces.parametrisation.edge_popup import EdgePopup, Ranking
from tombola.pieces.parametrisation.frozen import Frozen
from tombola.pieces.parametrisation.multi_prize import MultiPrize
from tombola.pieces.parametrisation.parametrisation import Identity, Parametrisation
from tombola.pieces.parametrisation.supermask import Supermask
from tombola.pieces.parametrisation.untrained import Weights

__all__ = [
    "EdgePopup",
    "Frozen",
    "Identity",
    "MultiPrize",
    "Parametrisation",
    "Ranking",
    "Supermask",
    "Weights",
]
