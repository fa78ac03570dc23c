"""Greedy forward selection: each layer is built up from nothing, a unit at a time."""

from dataclasses import replace

from tombola.pieces.greedy import GreedySelection
from tombola.pieces.rewind import Stay
from tombola.pieces.schedule import Densities
from tombola.recipes.imp import oneshot
from tombola.recipes.recipe import Recipe

GREEDY = Recipe(
    name="greedy",
    source="Ye et al. 2020, Good Subnetworks Provably Exist: Pruning via Greedy Forward Selection "
    "(arXiv 2003.01794), and Ye, Wu & Liu 2020 (arXiv 2010.15969): units that match what the "
    "trained layers computed, not trained again; densities count units",
    loop=oneshot,
    rule=GreedySelection(),
    schedule=Densities(),
    rewind=Stay(retrain=0),
)

GREEDY_RETRAINED = replace(
    GREEDY,
    name="greedy-retrained",
    source="Ye et al. 2020 (arXiv 2003.01794): as greedy, and then trained for the whole schedule "
    "again",
    rewind=Stay(retrain=None),
)
