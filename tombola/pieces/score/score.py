"""What a score is given and what it must return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor

from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.units import Coupling


class Need(Enum):
    """What a score or rule cannot do without; a recipe that does not offer it is refused."""

    TRAINED = "weights after training: the recipe must train before it cuts"
    BATCHES = "training examples"
    OUTPUTS = "a loss of one tensor of outputs, by which it can be differentiated twice"


class When(Enum):
    """Which weights a score looks at."""

    START = "at initialisation, nothing cut"
    END = "at the moment of the cut"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The network at the moment of the cut.

    start: all tensors at initialisation, in later rounds too. end: all tensors now (the same as
    `start` before any training), cut weights +0.0, or as they were frozen. mask: what is kept so
    far. layers: what may be cut.
    """

    start: Params
    end: Params
    mask: Mask
    layers: tuple[Layer, ...]

    def params(self, when: When) -> Params:
        """`start` or `end`."""
        return self.start if when is When.START else self.end


class Probe(Protocol):
    """Access to the loss and to training examples, for scores that need them.

    The network runs in inference mode (running normalisation statistics, no dropout); training
    examples only, never validation or test. Every draw is keyed by the trial's seed.
    """

    def batches(self, count: int, size: int) -> Sequence[Any]:
        """`count` batches of `size` distinct training examples, without replacement in all."""
        ...

    def loss(self, params: Mapping[str, Tensor], batch: Any, *, temperature: float = 1.0) -> Tensor:
        """Mean loss of the network with these tensors (missing ones are an error), a scalar; of its
        raw outputs divided by `temperature`."""
        ...

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        """Raw outputs of the network, first dimension the examples."""
        ...

    def loss_at(self, outputs: Tensor, batch: Any) -> Tensor:
        """Mean loss of a batch if these were its raw outputs, a scalar."""
        ...

    def inputs(self, params: Mapping[str, Tensor], name: str, batch: Any) -> Tensor:
        """What the layer of a weight tensor is fed, (groups, rows, fan-in).

        A row is what one product with a row of the weight takes: an example, a position of a
        sequence, or a patch of an image. groups: of a convolution, else 1; fan-in in the order of
        the weight's dimensions from the second on.
        """
        ...

    def flow(self, params: Mapping[str, Tensor]) -> Tensor:
        """Sum of the raw outputs for one input of ones, with these tensors and in their dtype.

        Normalisation passes on what it gets, scaled and shifted by its own weight and bias, so that
        tensors without negative entries give a sum over paths. Takes the shape of an input from the
        training examples, and nothing else; of whole numbers too, so of words, the one with number
        1.
        """
        ...

    def coupling(self) -> Coupling:
        """The network's units, by tracing it.

        Raises:
            WorldError: it cannot be traced; names the module.
        """
        ...

    def stream(self, *names: object) -> torch.Generator:
        """A generator for one named purpose."""
        ...


class Score(Protocol):
    """A frozen dataclass with `needs` and a call; `tombola.testing.check_score` tests it.

    One that takes training examples says how many in an attribute `examples`, so that a world with
    fewer is refused before anything is trained.
    """

    @property
    def needs(self) -> frozenset[Need]: ...

    def __call__(self, at: Snapshot, probe: Probe) -> Mapping[str, Tensor]:
        """One finite number per weight for each of `at.layers`, higher means keep."""
        ...


def examples_of(*scores: Score) -> int:
    """How many training examples the scores take, for one that is made of them."""
    return max(getattr(score, "examples", 0) for score in scores)
