"""Two networks on the digits: one that is stable from its start, and one that is not.

The objects that `run.sh` names on the command line.
"""

from dataclasses import replace
from pathlib import Path

from tombola.lab.probe import Stability
from tombola.pieces.schedule import Geometric
from tombola.recipes.imp import IMP
from tombola.world.catalogue import digits
from tombola.world.data.digits import digits as digits_data
from tombola.world.models import ResNet
from tombola.world.optimiser import SGD, Drops
from tombola.world.world import World

# Six rounds reach 26 % density, where 2019 judged the 20-layer network.
IMP_6 = replace(IMP, name="imp-6-rounds", schedule=Geometric(rounds=6))


def small_resnet() -> ResNet:
    """Six layers: widths 8 and 16, one block each, normalised; for one channel of 8 x 8."""
    return ResNet((8, 16), blocks=1, channels=1, classes=10)


def resnet(data: Path | None = None) -> World:
    """The network on the scans as images: SGD 0.1 with two drops, 800 steps."""
    images = {
        name: (split.inputs.reshape(-1, 1, 8, 8), split.targets)
        for name, split in digits_data().items()
    }
    return World(
        name="digits-resnet",
        model=small_resnet,
        **images,
        steps=800,
        batch_size=60,
        optimiser=SGD(lr=0.1, momentum=0.9, weight_decay=1e-4, rate=Drops(at=(400, 600))),
        evaluate_every=50,
        rates=0.8,
        unpruned=("*.shortcut.*", "output.weight"),
        judged_density=0.2622,
        margin=0.01,
    )


def lenet(data: Path | None = None) -> World:
    """LeNet-300-100 as in the catalogue."""
    return digits(data)


STABILITY = Stability(
    arms=("dense", "ticket", "reinit"),
    steps=(0, 16, 80),
    statistics=("interpolated", "recomputed"),
    within=0.01,
)

AT_START = Stability(arms=("dense", "ticket", "reinit"), steps=(0,), noises=("order",))
