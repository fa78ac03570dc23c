"""What training minimises and what is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tombola.world.batch import Batch
from tombola.world.calling import logits

Call = Callable[[Any], Any]  # inputs -> outputs of the network


class Metric(Protocol):
    """A frozen dataclass: `init`, `update` over batches, `result`, under a name."""

    @property
    def name(self) -> str: ...

    def init(self) -> Any: ...

    def update(self, state: Any, outputs: Any, batch: Batch) -> Any: ...

    def result(self, state: Any) -> float: ...


class Objective(Protocol):
    """A frozen dataclass.

    given: names of what `loss` must be handed beside the batch (a teacher). metrics: measured on
    validation and test data; the one named `loss` chooses the stop step.
    """

    @property
    def given(self) -> frozenset[str]: ...

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        """Mean loss of a batch, a scalar."""
        ...

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        """A term in the trained coordinates alone, added to the loss; None for none."""
        ...

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        """What is wrong with these targets for a network with these outputs, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Fraction of examples whose largest output is the target."""

    name: str = "accuracy"

    def init(self) -> tuple[int, int]:
        return (0, 0)

    def update(self, state: tuple[int, int], outputs: Any, batch: Batch) -> tuple[int, int]:
        found = logits(outputs)
        right = int((found.argmax(dim=1) == batch.targets).sum())
        return (state[0] + right, state[1] + len(found))

    def result(self, state: tuple[int, int]) -> float:
        return state[0] / state[1]


@dataclass(frozen=True, kw_only=True)
class CrossEntropyLoss:
    """Mean cross-entropy over all examples, in nats."""

    name: str = "loss"

    def init(self) -> tuple[float, int]:
        return (0.0, 0)

    def update(self, state: tuple[float, int], outputs: Any, batch: Batch) -> tuple[float, int]:
        found = logits(outputs)
        total = float(F.cross_entropy(found, batch.targets, reduction="sum"))
        return (state[0] + total, state[1] + len(found))

    def result(self, state: tuple[float, int]) -> float:
        return state[0] / state[1]


OTHER_TASK = "For another task than classification pass objective=tombola.Loss(..)"


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Hard labels: int64 targets from 0 to classes - 1, outputs (examples, classes), or a record
    or dict that has them as `logits`."""

    @property
    def given(self) -> frozenset[str]:
        return frozenset()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (CrossEntropyLoss(), Accuracy())

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        return F.cross_entropy(logits(call(batch.inputs)), batch.targets)

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        return None

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        return not_classes(targets, outputs)


@dataclass(frozen=True, kw_only=True)
class SquaredErrorLoss:
    """Mean over all examples of the halved squared error, summed over outputs."""

    name: str = "loss"

    def init(self) -> tuple[float, int]:
        return (0.0, 0)

    def update(self, state: tuple[float, int], outputs: Tensor, batch: Batch) -> tuple[float, int]:
        total = float(squared_error(outputs, batch.targets).sum())
        return (state[0] + total, state[1] + len(outputs))

    def result(self, state: tuple[float, int]) -> float:
        return state[0] / state[1]


@dataclass(frozen=True, kw_only=True)
class SquaredError:
    """|f - y|^2 / 2 with y one-hot: for what theory says of squared losses.

    Targets and outputs as of `CrossEntropy`.
    """

    @property
    def given(self) -> frozenset[str]:
        return frozenset()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (SquaredErrorLoss(), Accuracy())

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        return squared_error(call(batch.inputs), batch.targets).mean()

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        return None

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        return not_classes(targets, outputs)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Halved squared distance to the one-hot class, (examples,).

    >>> squared_error(torch.tensor([[1., 0.], [0., 0.]]), torch.tensor([0, 1]))
    tensor([0.0000, 0.5000])
    """
    wanted = F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    return (outputs - wanted).square().sum(dim=1) / 2


def not_classes(targets: Any, outputs: Any) -> str | None:
    """What is wrong with these targets as classes of a network with these outputs, or None."""
    outputs = logits(outputs)
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        return (
            f"the network's output is {_said(outputs)}; want a tensor (examples, classes), or "
            f"a record with one as `logits`. {OTHER_TASK}"
        )
    if not isinstance(targets, Tensor) or targets.dtype is not torch.int64 or targets.dim() != 1:
        return (
            f"targets are {_said(targets)}; want int64 class numbers, one per example "
            f"(targets.long()). {OTHER_TASK}"
        )
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= outputs.shape[1]:
        return (
            f"labels go from {low} to {high}; the network has {outputs.shape[1]} outputs, "
            f"so want 0 to {outputs.shape[1] - 1}"
        )
    return None


def _said(value: Any) -> str:
    """What something is, in short."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
