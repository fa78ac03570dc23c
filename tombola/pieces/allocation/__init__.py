"""How a density is shared out among tensors, for targets that do not set counts themselves."""

from tombola.pieces.allocation.allocation import Allocation, Global
from tombola.pieces.allocation.by_rate import ByRate
from tombola.pieces.allocation.by_sensitivity import BySensitivity
from tombola.pieces.allocation.erk import ERK
from tombola.pieces.allocation.uniform import Uniform

__all__ = ["ERK", "Allocation", "ByRate", "BySensitivity", "Global", "Uniform"]
