"""LeNet-300-100 on MNIST under SGD at a small and a large learning rate.

The objects that `run.sh` names on the command line.
"""

from dataclasses import replace
from pathlib import Path

from tombola.pieces.schedule import LayerRates
from tombola.recipes.imp import IMP
from tombola.world.catalogue import mnist_lenet
from tombola.world.optimiser import SGD
from tombola.world.world import World

# Five rounds: 33 % density.
IMP_5 = replace(IMP, name="imp-5-rounds", schedule=LayerRates(rounds=5))


def at_rate(lr: float, data: Path | None = None) -> World:
    """`mnist-lenet` for 3,000 steps of SGD, about three passes, judged after five rounds."""
    return replace(
        mnist_lenet(data),
        name=f"mnist-lenet-sgd-{lr:g}",
        steps=3_000,
        optimiser=SGD(lr=lr),
        judged_density=0.33,
    )


def small_rate(data: Path | None = None) -> World:
    """SGD at 0.01."""
    return at_rate(0.01, data)


def large_rate(data: Path | None = None) -> World:
    """SGD at 0.5."""
    return at_rate(0.5, data)
