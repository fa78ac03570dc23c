"""The contract between the training loop, which decides what a step is, and what computes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.world.data.split import Split


class NotServedError(Exception):
    """Why an executor does not train something; the text names the part. Another one does."""


class DenseIsFasterError(NotServedError):
    """It would serve, but does not pay; nor would any other."""


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    number: from 0. index: the examples in order, int64. factor: on the learning rate. noise: seed
    of everything random in it.
    """

    number: int
    index: Tensor
    factor: float
    noise: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a training stands between two steps, whatever computes it; all copies.

    coords, slots: under the network's own names and shapes, with cut entries +0.0, so that another
    executor could go on. mask, state: of the dynamics.
    """

    coords: Params
    slots: Params
    mask: Mask
    state: Params


class Executor(Protocol):
    """Makes the steps of one training; built for it, and thrown away after it.

    Whatever the implementation, a step from equal coordinates and slots gives those of the `dense`
    executor, within a tolerance that its tests state.

    name: what is recorded, and what a checkpoint has to agree with. most: steps of one `advance`;
    between two of these the loop looks at the clock and says how far it is. mask: what is kept now.
    """

    @property
    def name(self) -> str: ...

    @property
    def most(self) -> int: ...

    @property
    def mask(self) -> Mask: ...

    def advance(self, steps: Sequence[Step]) -> None:
        """Make these steps, one after the other."""
        ...

    def measure(self, split: Split) -> dict[str, float]:
        """Metrics of the network as it computes now."""
        ...

    def finite(self) -> bool:
        """Whether everything trained is finite."""
        ...

    def frozen(self) -> Callable[[], Params]:
        """The coordinates of this moment: copied now, laid out under their names when called."""
        ...

    def standing(self) -> Standing: ...
