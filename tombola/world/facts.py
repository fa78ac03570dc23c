"""What a world's network says of itself when it is run once, before anything is trained."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tombola.values.rng import borrowed_generators
from tombola.world.calling import called, logits
from tombola.world.feeding import rows_of
from tombola.world.layers import beside_layers, zero_everywhere
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Facts:
    """outputs: how many numbers the network says of an example; None where its output is not one
    tensor, or the objective runs it more than once. fed: weight tensors of the linear layers and
    convolutions that it calls. beside, zero: see `Setting`."""

    outputs: int | None
    fed: frozenset[str]
    beside: tuple[str, ...]
    zero: tuple[str, ...]


def facts(world: World) -> Facts:
    """Found by the loss of one training example, in inference mode."""
    network, said, fed = world.new_network(0).eval(), list[Any](), set[int]()

    def see(module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and rows_of(module, given[0]) is not None:
            fed.add(id(module.weight))

    for module in network.modules():
        module.register_forward_pre_hook(see)
    with torch.no_grad(), world.numerics.in_force(), borrowed_generators():

        def call(inputs: Any) -> Any:
            said.append(logits(called(network, inputs)))
            return said[-1]

        world.objective.loss(call, world.batch(world.train, torch.arange(1)), {})
    single = len(said) == 1 and isinstance(said[0], Tensor)
    state = network.state_dict(keep_vars=True)
    return Facts(
        outputs=said[0].numel() if single else None,
        fed=frozenset(name for name, tensor in state.items() if id(tensor) in fed),
        beside=beside_layers(network, world.rate_of),
        zero=zero_everywhere(network),
    )
