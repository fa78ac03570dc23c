"""Access to loss, outputs and training examples for scores and rules."""

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from tombola.errors import RecipeError
from tombola.values.rng import stream
from tombola.values.units import Coupling
from tombola.world.batch import Batch, leaves, nested
from tombola.world.calling import called, logits
from tombola.world.feeding import fed_to
from tombola.world.plumbing import plumbing
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

    def loss(
        self, params: Mapping[str, Tensor], batch: Batch, *, temperature: float = 1.0
    ) -> Tensor:
        def call(inputs: Any) -> Any:
            raw = called(self._network, inputs, params)
            return raw if temperature == 1.0 else nested(lambda part: part / temperature, raw)

        return self._world.objective.loss(call, batch, {})

    def outputs(self, params: Mapping[str, Tensor], batch: Batch) -> Tensor:
        result: Tensor = logits(called(self._network, batch.inputs, params))
        return result

    def loss_at(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self._world.objective.loss(lambda inputs: outputs, batch, {})

    def inputs(self, params: Mapping[str, Tensor], name: str, batch: Batch) -> Tensor:
        return fed_to(self._network, params, name, batch.inputs)

    def flow(self, params: Mapping[str, Tensor]) -> Tensor:
        dtype = next(tensor.dtype for tensor in params.values() if tensor.is_floating_point())
        inputs = nested(partial(_ones, dtype=dtype), self._one_input)
        outputs = logits(called(self._plumbing, inputs, params))
        return torch.stack([part.sum() for part in leaves(outputs)]).sum()

    @cached_property
    def _one_input(self) -> Any:
        return self._world.batch(self._world.train, torch.zeros(1, dtype=torch.int64)).inputs

    @cached_property
    def _plumbing(self) -> nn.Module:
        return plumbing(self._network)

    def coupling(self) -> Coupling:
        return self._world.coupling

    def stream(self, *names: object) -> torch.Generator:
        return stream(self._seed, *names)


def _ones(like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.ones_like(like, dtype=dtype if like.is_floating_point() else like.dtype)
