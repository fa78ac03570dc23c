"""Where do weights start from after a cut? One treatment a file."""

from tombola.pieces.action.action import Action, Site
from tombola.pieces.action.constant import Constant
from tombola.pieces.action.fan_in import FanIn
from tombola.pieces.action.keep_sign import KeepSign
from tombola.pieces.action.noise import Noise
from tombola.pieces.action.reinit import Reinit
from tombola.pieces.action.resample import Resample
from tombola.pieces.action.rescaled import Rescaled
from tombola.pieces.action.reshuffle import Reshuffle
from tombola.pieces.action.rewound import Rewound
from tombola.pieces.action.zero_shrunk import ZeroShrunk

__all__ = [
    "Action",
    "Constant",
    "FanIn",
    "KeepSign",
    "Noise",
    "Reinit",
    "Resample",
    "Rescaled",
    "Reshuffle",
    "Rewound",
    "Site",
    "ZeroShrunk",
]
