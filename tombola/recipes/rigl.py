"""RigL: training with a mask that moves at constant density."""

from tombola.pieces.allocation import ERK
from tombola.pieces.dynamics import RigL
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities
from tombola.pieces.score import Random
from tombola.recipes.recipe import Recipe, grow

# `every` = 100 steps is the published constant, for tens of thousands of steps. The mask of
# a training of 133 steps or fewer never moves: there, `replace(RIGL, dynamics=RigL(every=...))`.
RIGL = Recipe(
    name="rigl",
    source="Evci, Gale, Menick, Castro & Elsen 2020, Rigging the Lottery (arXiv 1911.11134): a "
    "random mask at the densities of an Erdős-Rényi kernel; every 100 steps the smallest "
    "weights are dropped and connections of largest gradient grown",
    loop=grow,
    rule=ByScore(score=Random(), allocation=ERK()),
    schedule=Densities(),
    dynamics=RigL(),
)
