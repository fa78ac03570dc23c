"""Metrics of a network on a split."""

from functools import partial

import torch
from torch import nn

from tombola.values.rng import borrowed_generators
from tombola.world.batch import nested
from tombola.world.calling import called
from tombola.world.data.split import Split
from tombola.world.objective import Call
from tombola.world.world import World

# Examples at once, by kind of device; fixed, because another chunking is another rounding.
CHUNKS = {"cpu": 2_048, "cuda": 16_384}


def evaluate(
    network: nn.Module, world: World, split: Split, call: Call | None = None
) -> dict[str, float]:
    """Every metric of the objective on a whole split, in inference mode.

    call: what computes outputs, where that is not the network itself. The network is moved to the
    world's device; its mode is put back afterwards, torch's random state too.
    """
    numerics = world.numerics
    numerics.place(network)
    split = split.on(numerics.torch_device)
    compute = partial(called, network) if call is None else call
    metrics = world.objective.metrics
    states = {metric.name: metric.init() for metric in metrics}
    was_training = network.training
    network.eval()
    with torch.no_grad(), borrowed_generators():
        for index in torch.arange(len(split)).split(CHUNKS[numerics.torch_device.type]):
            batch = world.batch(split, index)
            with numerics.autocast():
                outputs = compute(batch.inputs)
            if numerics.mixed:
                outputs = nested(numerics.convert, outputs)
            for metric in metrics:
                states[metric.name] = metric.update(states[metric.name], outputs, batch)
    network.train(was_training)
    return {metric.name: metric.result(states[metric.name]) for metric in metrics}
