"""Optimal Brain Surgeon: train, cut, compensate; no retraining."""

from tombola.pieces.rewind import Stay
from tombola.pieces.schedule import Densities
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.recipes.recipe import Recipe, iterate

OBS = Recipe(
    name="obs",
    source="Hassibi & Stork 1993, Second order derivatives for network pruning: Optimal Brain "
    "Surgeon (NIPS 5), section 2: cut, move the other weights, do not train again",
    loop=iterate,
    rule=OptimalBrainSurgeon(),
    schedule=Densities(),
    rewind=Stay(retrain=0),
)
