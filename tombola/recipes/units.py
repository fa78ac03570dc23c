"""Structured tickets: whole neurons and channels, blocks, and N of every M weights are cut."""

from tombola.pieces.basis import Blocks
from tombola.pieces.by_units import ByUnits
from tombola.pieces.n_of_m import NOfM
from tombola.pieces.schedule import Densities
from tombola.pieces.score import Magnitude
from tombola.recipes.imp import oneshot
from tombola.recipes.recipe import Recipe, iterate

UNITS = Recipe(
    name="units",
    source="Li et al. 2017, Pruning Filters for Efficient ConvNets (arXiv 1608.08710), for the "
    "cut; in rounds and reset as Frankle & Carbin 2019: imp that cuts whole neurons and channels, "
    "those whose weights are smallest in sum; densities count units",
    loop=iterate,
    rule=ByUnits(score=Magnitude()),
)

UNITS_ONESHOT = Recipe(
    name="units-oneshot",
    source="Li et al. 2017 (arXiv 1608.08710): as units, in one cut to half of the units; Liu et "
    "al. 2019, Rethinking the Value of Network Pruning (arXiv 1810.05270), ask whether its reset "
    "network trains any better than a fresh one",
    loop=oneshot,
    rule=ByUnits(score=Magnitude()),
    schedule=Densities(values=(0.5,)),
)

BLOCKS = Recipe(
    name="blocks",
    source="Gray, Radford & Kingma 2017, GPU Kernels for Block-Sparse Weights, for the pattern: "
    "imp that cuts blocks of 2 x 4 weights; densities count blocks",
    loop=iterate,
    rule=ByUnits(score=Magnitude(), basis=Blocks(rows=2, columns=4)),
)

N_OF_M = Recipe(
    name="n-of-m",
    source="Zhou et al. 2021, Learning N:M Fine-grained Structured Sparse Neural Networks From "
    "Scratch (arXiv 2102.04010), for the pattern: one cut of the trained network to 2 of every 4 "
    "inputs, then reset",
    loop=oneshot,
    rule=NOfM(score=Magnitude()),
    schedule=Densities(values=(0.5,)),
)
