"""LeNet-300-100 on the digits under SGD at a small and a large learning rate.

The objects that `run.sh` names on the command line.
"""

from dataclasses import replace
from pathlib import Path

from tombola.pieces.schedule import LayerRates
from tombola.recipes.imp import IMP
from tombola.world.catalogue import digits
from tombola.world.optimiser import SGD
from tombola.world.world import World

# Four rounds: 41 % density.
IMP_4 = replace(IMP, name="imp-4-rounds", schedule=LayerRates(rounds=4))


def at_rate(lr: float, data: Path | None = None) -> World:
    """`digits` for 1,500 steps of plain SGD, judged after four rounds."""
    return replace(
        digits(data),
        name=f"digits-sgd-{lr:g}",
        steps=1_500,
        evaluate_every=50,
        optimiser=SGD(lr=lr),
        judged_density=0.42,
    )


def small_rate(data: Path | None = None) -> World:
    """SGD at 0.01."""
    return at_rate(0.01, data)


def large_rate(data: Path | None = None) -> World:
    """SGD at 0.5."""
    return at_rate(0.5, data)
