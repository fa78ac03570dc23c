"""The 2019 Conv-2 study at a shortened length, as objects `tombola find` can name."""

from dataclasses import replace
from pathlib import Path

import torch

from tombola.world.data.cifar10 import cifar10
from tombola.world.networks import NETWORKS
from tombola.world.world import World


def conv2_1200(data: Path | None = None) -> World:
    """`cifar10-conv2` with 1,200 steps on 10,000 images in place of 20,000 steps on 45,000: seven
    passes over the images in place of 27. Judged at round 3, 51 % density."""
    parts = cifar10(data)
    parts["train"] = parts["train"].part(torch.arange(10_000))
    parts["validation"] = parts["validation"].part(torch.arange(1_000))
    return replace(
        NETWORKS["conv2"](parts, "cifar10-conv2-1200"),
        steps=1_200,
        evaluate_every=50,
        judged_density=0.515,
        margin=0.01,
    )
