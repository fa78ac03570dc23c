"""The networks that an objective learns from: asked anew for each batch, or remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from tombola.values.rng import borrowed_generators
from tombola.world.batch import Batch, joined, nested
from tombola.world.calling import called
from tombola.world.objective import Call, Objective
from tombola.world.prepare import draws
from tombola.world.world import World


class Given(Protocol):
    """What answers for a given network in a training."""

    def about(self, batch: Batch) -> Call:
        """The call that stands for the network while this batch is learned from."""
        ...


@dataclass(frozen=True)
class Live:
    """The network itself: where augmentation shows it other inputs at every step."""

    network: Call

    def about(self, batch: Batch) -> Call:
        return self.network


@dataclass(frozen=True)
class Remembered:
    """What the network says of every training example, looked up by its place in the split.

    outputs: nested tensors, first dimension the examples. Saves one forward pass a step.
    """

    outputs: Any

    def about(self, batch: Batch) -> Call:
        outputs = nested(lambda tensor: tensor.index_select(0, batch.index), self.outputs)
        return lambda inputs: outputs


def remembered(network: Call, world: World) -> Remembered:
    """Ask a network about the whole training split, once.

    In batches of the training's own size, in the order of the split, the last one overlapping the
    one before: every pass has the shape that a live one has. So the answer for an example is a
    function of network, split and batch size alone, whatever was trained before or since. A live
    pass sees other neighbours; kernels that round each row by itself give the same bits, others
    differ by rounding (1e-6 of the largest output, float32).
    """
    split = world.train.on(world.numerics.torch_device)
    count, size = len(split), world.batch_size
    answers: list[Any] = []
    with torch.no_grad(), borrowed_generators():
        for start in range(0, count, size):
            first = max(0, min(start, count - size))
            batch = world.batch(split, torch.arange(first, min(first + size, count)))
            fresh = start - first  # examples before it were answered by the batch before
            outputs = network(batch.inputs)
            answers.append(nested(lambda tensor, skip=fresh: tensor[skip:], outputs))
    return Remembered(joined(answers))


def answering(
    world: World, objective: Objective, given: Mapping[str, nn.Module]
) -> dict[str, Given]:
    """Of each network handed to a training, and of those the objective brings: what answers for it.

    Remembered where preparing an example never draws anything, else live. That depends on the world
    alone, so a training continued is the training uninterrupted.
    """
    handed = {name: partial(called, network) for name, network in given.items()}
    networks: dict[str, Call] = {**getattr(objective, "brings", {}), **handed}
    if draws(world.prepare):
        return {name: Live(network) for name, network in networks.items()}
    return {name: remembered(network, world) for name, network in networks.items()}
