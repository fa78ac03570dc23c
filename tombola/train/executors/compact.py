"""The plain executor on the units that can matter."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.dynamics import Static
from tombola.pieces.parametrisation import Identity
from tombola.train.executors.dense import Dense
from tombola.train.executors.executor import NotServedError, Standing, Step
from tombola.train.executors.units import Computed, Part, parts_of, stages_of
from tombola.train.leg import Leg
from tombola.train.training import Training
from tombola.values.mask import FULL
from tombola.values.params import Params
from tombola.world.data.split import Split
from tombola.world.world import World


class Compact:
    """A sequential network of fewer units, torch's own dense products, and whole tensors to train.

    Units that nothing reads are left out, and those that are the same for all examples computed
    once; see `units`. What is left out has gradients of zero, which the optimiser is handed, so
    that decay and momentum act on it as they do in `Dense`. A step equals that of `Dense` up to the
    order of sums: within 1e-5 of the largest weight in float32, where no normalisation divides by
    next to nothing; the tests hold it to that, and to 1e-9 in float64.
    """

    name: ClassVar[str] = "compact"
    most: ClassVar[int] = 1

    def __init__(
        self, training: Training, start: Params, resume: Leg | None, *, parts: Sequence[Part]
    ) -> None:
        self._dense = Dense(training, start, resume)
        self.mask = training.mask
        network, inputs = self._dense.network, units_given(training.world)
        self._dense.compute = Computed(network, stages_of(network, parts, inputs, self.mask))

    def advance(self, steps: Sequence[Step]) -> None:
        for step in steps:
            for tensor in self._dense.trained.values():
                tensor.grad = torch.zeros_like(tensor)
            self._dense.advance([step])

    def measure(self, split: Split) -> dict[str, float]:
        return self._dense.measure(split)

    def finite(self) -> bool:
        return self._dense.finite()

    def frozen(self) -> Callable[[], Params]:
        return self._dense.frozen()

    def standing(self) -> Standing:
        return self._dense.standing()


def check_served(training: Training) -> None:
    """Raise NotServedError if `Compact` cannot serve a training, as far as that is known without
    its network."""
    pieces = {
        "parametrisation": (training.parametrisation, Identity),
        "dynamics": (training.dynamics, Static),
    }
    for what, (piece, served) in pieces.items():
        if type(piece) is not served:
            raise NotServedError(f"{what} {type(piece).__name__} is not {served.__name__}")
    inputs = training.world.train.inputs
    if not isinstance(inputs, Tensor) or inputs.dim() < 2:
        raise NotServedError("its inputs are not one tensor (examples, ...)")


def parts_for(world: World) -> tuple[Part, ...]:
    """The parts of a world's network.

    Raises:
        NotServedError: it is no row of parts, or they compute something else.
    """
    network = world.new_network(0).eval()
    inputs = world.batch(world.train, torch.arange(min(3, len(world.train)))).inputs
    parts = parts_of(network, inputs)
    computed = Computed(network, stages_of(network, parts, inputs.shape[1], FULL))
    with torch.no_grad():
        one, other = network(inputs), computed(inputs)
    if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
        raise NotServedError(f"{type(network).__name__} computes something else than its layers")
    return parts


def units_given(world: World) -> int:
    """How many units an example has."""
    batch = world.batch(world.train, torch.arange(1))
    count: int = batch.inputs.shape[1]
    return count
