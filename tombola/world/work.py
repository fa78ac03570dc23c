"""How many products each weight tensor of a network takes."""

from typing import Any

import torch
from torch import Tensor, nn

from tombola.world.calling import called
from tombola.world.world import World


def multiplications(world: World) -> dict[str, float]:
    """Products that each weight tensor takes for one example, counted while the network runs."""
    network, found = world.new_network(0).eval(), dict[str, float]()
    names = {id(parameter): name for name, parameter in network.named_parameters()}

    def count(module: nn.Module, inputs: Any, outputs: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        found[names[id(weight)]] = outputs.numel() * weight[0].numel()

    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            module.register_forward_hook(count)
    with torch.no_grad():
        called(network, world.batch(world.train, torch.arange(1)).inputs)
    return found
