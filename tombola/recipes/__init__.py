"""Methods and controls as data."""

from tombola.recipes.controls import Dense, Reinit, Shuffle
from tombola.recipes.distil import KD_TICKET
from tombola.recipes.edge_popup import EDGE_POPUP
from tombola.recipes.imp import IMP, IMP_REWIND, ONESHOT
from tombola.recipes.obs import OBS
from tombola.recipes.recipe import Recipe, Round, grow, iterate
from tombola.recipes.rigl import RIGL
from tombola.recipes.snip import SNIP

__all__ = [
    "EDGE_POPUP",
    "IMP",
    "IMP_REWIND",
    "KD_TICKET",
    "OBS",
    "ONESHOT",
    "RIGL",
    "SNIP",
    "Dense",
    "Recipe",
    "Reinit",
    "Round",
    "Shuffle",
    "grow",
    "iterate",
]
