"""What is trained, and what the network computes with."""

from tombola.pieces.parametrisation.edge_popup import EdgePopup
from tombola.pieces.parametrisation.frozen import Frozen
from tombola.pieces.parametrisation.parametrisation import Identity, Parametrisation

__all__ = ["EdgePopup", "Frozen", "Identity", "Parametrisation"]
