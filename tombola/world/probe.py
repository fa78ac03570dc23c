"""Access to loss, outputs and training examples for scores and rules."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from tombola.errors import RecipeError
from tombola.values.rng import stream
from tombola.world.batch import Batch
from tombola.world.world import World


class NetworkProbe:
    """The `Probe` of a world and a seed; the network is in inference mode throughout."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._seed = world, seed
        self._network = world.new_network(0).eval()

    def batches(self, count: int, size: int) -> list[Batch]:
        have = len(self._world.train)
        if count * size > have:
            raise RecipeError(
                f"the score or rule wants {count} x {size} distinct training examples, there are "
                f"{have}."
            )
        order = torch.randperm(have, generator=self.stream("probe"))
        parts = order[: count * size].split(size)
        return [self._world.batch(self._world.train, index) for index in parts]

    def loss(self, params: Mapping[str, Tensor], batch: Batch) -> Tensor:
        return self._world.objective.loss(
            lambda inputs: functional_call(self._network, dict(params), (inputs,)), batch, {}
        )

    def outputs(self, params: Mapping[str, Tensor], batch: Batch) -> Tensor:
        result: Tensor = functional_call(self._network, dict(params), (batch.inputs,))
        return result

    def stream(self, *names: object) -> torch.Generator:
        return stream(self._seed, *names)
