"""What is kept or cut as one: units of a network, blocks of a matrix."""

from tombola.pieces.basis.basis import Basis, basis_of, counted
from tombola.pieces.basis.blocks import Blocks
from tombola.pieces.basis.units import Units

__all__ = ["Basis", "Blocks", "Units", "basis_of", "counted"]
