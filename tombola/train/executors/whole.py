"""Gradients of whole tensors, for the steps at which an executor of kept values wants them."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from tombola.train.executors.executor import Step
from tombola.train.training import Training
from tombola.values.rng import reseed, stream
from tombola.world.calling import called


class WholeGradients(Mapping[str, Tensor]):
    """Those of the step's batch at these coordinates, cut entries too, as `Dense` computes them.

    Computed when first looked at: an update that grows at random looks at none, and costs none.
    network: of the world, in training mode. coords: whole tensors of everything trained.
    """

    def __init__(
        self, training: Training, network: nn.Module, coords: Mapping[str, Tensor], step: Step
    ) -> None:
        self._job, self._network, self._coords, self._step = training, network, coords, step
        self._found: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._gradients()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._gradients())

    def __len__(self) -> int:
        return len(self._gradients())

    def _gradients(self) -> dict[str, Tensor]:
        if not self._found:
            self._found = self._computed()
        return self._found

    def _computed(self) -> dict[str, Tensor]:
        world, step = self._job.world, self._step
        leaves = {n: t.detach().clone().requires_grad_(True) for n, t in self._coords.items()}
        reseed(step.noise)
        batch = world.batch(world.train, step.index, stream(step.noise, "prepare"))
        loss = self._job.objective.loss(
            lambda inputs: called(self._network, inputs, leaves), batch, {}
        )
        loss.backward()
        return {n: t.grad for n, t in leaves.items() if t.grad is not None}
