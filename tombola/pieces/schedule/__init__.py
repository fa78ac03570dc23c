"""How much is kept in each round: a schedule yields targets."""

from tombola.pieces.schedule.cubic import Cubic
from tombola.pieces.schedule.densities import Densities
from tombola.pieces.schedule.geometric import Geometric
from tombola.pieces.schedule.layer_rates import LayerRates
from tombola.pieces.schedule.linear import Linear
from tombola.pieces.schedule.target import (
    DENSE,
    Schedule,
    Target,
    at_or_below,
    check_density,
    round_half_up,
)
from tombola.pieces.schedule.up_to import UpTo

__all__ = [
    "DENSE",
    "Cubic",
    "Densities",
    "Geometric",
    "LayerRates",
    "Linear",
    "Schedule",
    "Target",
    "UpTo",
    "at_or_below",
    "check_density",
    "round_half_up",
]
