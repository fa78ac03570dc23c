"""Ma et al. 2021: tickets that learn from the soft labels of the dense network.

| | plain | on soft labels |
| --- | --- | --- |
| from the initial weights | `oneshot` | `kd-ticket` |
| from the weights of step k | `oneshot-weight-rewind` | `kd-rewind` |
| from the weights left, all rates again | `oneshot-lr-rewind` | `kd-lr-rewind` |

The plain ones as arms have the same masks and starts, so that labels alone differ:

    tombola find kd-rewind --on digits --arms dense,uncut,oneshot-weight-rewind,kd-ticket

Soft labels help dense networks too: `uncut` is the whole network under the ticket's objective, from
its start and the same teacher. Fields of `Distillation`: temperature, weight, and another teacher
than the dense network of the same seed, any module (`Teacher`). To switch it off at a step s:

    replace(KD_TICKET, retrain=Switched(at=s))
"""

from dataclasses import replace

from tombola.pieces.rewind import Rewind
from tombola.pieces.schedule import Densities
from tombola.recipes.imp import ONESHOT
from tombola.recipes.recipe import Recipe
from tombola.recipes.retraining import EARLY, WHOLE
from tombola.world.distillation import Distillation

MA = "Ma, Chen, Hu, You, Xie & Wang 2021, Good Students Play Big Lottery Better (arXiv 2101.03255)"


def distilled(name: str, rewind: Rewind, says: str) -> Recipe:
    """One cut by magnitude, all tensors together, then retrained on soft labels."""
    return replace(
        ONESHOT,
        name=name,
        source=f"{MA}: one cut by magnitude, all tensors together, then {says}",
        schedule=Densities(),
        rewind=rewind,
        retrain=Distillation(),
    )


KD_TICKET = distilled("kd-ticket", ONESHOT.rewind, "reset and distil")
KD_REWIND = distilled("kd-rewind", EARLY, "back to step k and distil, for the steps that are left")
KD_LR_REWIND = distilled(
    "kd-lr-rewind", WHOLE, "distil from the weights left, with the whole learning-rate schedule"
)
