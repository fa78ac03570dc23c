"""KD ticket: the reset ticket is trained on the soft labels of the dense network.

The dense control learns from the hard labels. What the soft ones add to this ticket is told by the
same ticket without them, `replace(KD_TICKET, retrain=None)`: same mask, same start.
"""

from tombola.pieces.schedule import Densities
from tombola.recipes.imp import oneshot
from tombola.recipes.recipe import Recipe
from tombola.world.distillation import Distillation

KD_TICKET = Recipe(
    name="kd-ticket",
    source="Ma, Chen, Hu, You, Xie & Wang 2021, Good Students Play Big Lottery Better (arXiv "
    "2101.03255): one cut by magnitude, all tensors together, then reset and distil",
    loop=oneshot,
    schedule=Densities(),
    retrain=Distillation(),
)
