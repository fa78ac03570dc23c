"""Metrics of a network on a split."""

import torch
from torch import nn

from tombola.values.rng import borrowed_generators
from tombola.world.data.split import Split
from tombola.world.objective import Call
from tombola.world.world import World

CHUNK = 2_048  # examples at once; fixed, because another chunking is another rounding


def evaluate(
    network: nn.Module, world: World, split: Split, call: Call | None = None
) -> dict[str, float]:
    """Every metric of the objective on a whole split, in inference mode.

    call: what computes outputs, where that is not the network itself. The network's mode is put
    back afterwards; torch's random state too.
    """
    compute = network if call is None else call
    metrics = world.objective.metrics
    states = {metric.name: metric.init() for metric in metrics}
    was_training = network.training
    network.eval()
    with torch.no_grad(), borrowed_generators():
        for index in torch.arange(len(split)).split(CHUNK):
            batch = world.batch(split, index)
            outputs = compute(batch.inputs)
            for metric in metrics:
                states[metric.name] = metric.update(states[metric.name], outputs, batch)
    network.train(was_training)
    return {metric.name: metric.result(states[metric.name]) for metric in metrics}
