"""Objectives of the user's own, from plain functions of outputs and targets."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from tombola.errors import RecipeError, WorldError
from tombola.values.digest import canonical, code_identity, digest
from tombola.values.params import params_of
from tombola.world.batch import Batch, joined, leaves, nested
from tombola.world.calling import logits
from tombola.world.objective import Call, Metric

Function = Callable[[Any, Any], Any]  # outputs, targets -> a scalar
Seen = tuple[tuple[Any, Any], ...]


@dataclass(frozen=True, eq=False)
class Measured:
    """A metric from a function that is called once, with all outputs and targets of a split.

    Example:
        >>> import torch
        >>> error = Measured("mae", torch.nn.functional.l1_loss)
        >>> seen = error.init()
        >>> for targets in (torch.tensor([1.0, 2.0]), torch.tensor([6.0])):
        ...     seen = error.update(seen, targets * 0, Batch(None, targets, None))
        >>> error.result(seen)
        3.0
    """

    name: str
    function: Function

    @cached_property
    def digest(self) -> str:
        return digest(["measured", self.name, identity_of(self.function)])

    def init(self) -> Seen:
        return ()

    def update(self, state: Seen, outputs: Any, batch: Batch) -> Seen:
        return (*state, (logits(outputs), batch.targets))

    def result(self, state: Seen) -> float:
        outputs, targets = (joined(list(side)) for side in zip(*state, strict=True))
        return float(self.function(outputs, targets))


@dataclass(frozen=True, eq=False)
class Loss:
    """Train with a loss of your own, and measure what you like beside it.

    function: (outputs, targets) to the mean loss of these examples, a scalar: one of
        `torch.nn.functional`, a module such as `nn.CrossEntropyLoss(weight=..)`, or your function.
    measure: name to such a function, for validation and test data. Each is called with all examples
        of a split at once, so it need not be a mean over them (an F score, a correlation). The loss
        itself is measured as `loss`, and chooses the stop step.

    Outputs are what the network returns; where that is a record or dict with `logits`, the logits.
    A verdict needs a rule about one of the metrics: `tombola.matching("test_mae", better="less")`.

    Raises:
        WorldError: what cannot be called or has no identity, or a metric named `loss`.

    Example:
        >>> import torch.nn.functional as F
        >>> [metric.name for metric in Loss(F.mse_loss, measure={"mae": F.l1_loss}).metrics]
        ['loss', 'mae']
    """

    function: Function
    measure: Mapping[str, Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measure", dict(self.measure))
        for name, function in {"function": self.function, **self.measure}.items():
            if isinstance(function, type) or not callable(function):
                raise WorldError(
                    f"Loss({name}={function!r:.60}): want a function (outputs, targets) to a "
                    "scalar, such as torch.nn.functional.mse_loss or nn.MSELoss()."
                )
            try:
                identity_of(function)
            except RecipeError as error:
                raise WorldError(f"Loss({name}=..): {error}") from error
        if "loss" in self.measure:
            raise WorldError("Loss(measure={'loss': ..}): the loss is measured under that name.")

    @cached_property
    def digest(self) -> str:
        return digest(["loss", [metric.digest for metric in self._all]])

    @cached_property
    def _all(self) -> tuple[Measured, ...]:
        named = {"loss": self.function, **self.measure}
        return tuple(Measured(name, function) for name, function in named.items())

    @property
    def given(self) -> frozenset[str]:
        return frozenset()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._all

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        found: Tensor = self.function(logits(call(batch.inputs)), batch.targets)
        return found

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        return None

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        """What goes wrong for the first examples, each function tried; None if nothing does."""
        outputs = logits(outputs)
        count = min((len(leaf) for leaf in leaves(outputs) if leaf.dim()), default=0)
        first = nested(lambda tensor: tensor[:count], targets)
        for metric in self._all:
            wrong = _wrong(metric.function, outputs, first)
            if wrong:
                return f"Loss: {metric.name}{_shapes(outputs, first)} {wrong}"
        return None


def _wrong(function: Function, outputs: Any, targets: Any) -> str | None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = function(outputs, targets)
        except Exception as error:
            return f"raises {type(error).__name__}: {error}".rstrip(".")
    if isinstance(found, Tensor) and found.numel() != 1:
        return f"gives {tuple(found.shape)}; want one number, the mean over the examples"
    if not isinstance(found, (Tensor, int, float)) and not hasattr(found, "__float__"):
        return f"gives {type(found).__name__}; want one number"
    spread = [str(one.message) for one in said if "target size" in str(one.message)]
    return f"warns: {spread[0]}".rstrip(".").replace("\n", " ") if spread else None


def _shapes(outputs: Any, targets: Any) -> str:
    there, wanted = (
        ", ".join(str(tuple(leaf.shape)) for leaf in leaves(side)) for side in (outputs, targets)
    )
    return f"(outputs {there}, targets {wanted})"


def identity_of(function: Any) -> Any:
    """What a function or module computes, for a digest: modules by tensors, settings and code."""
    if not isinstance(function, nn.Module):
        return canonical(function)
    settings = [
        {name: value for name, value in vars(module).items() if _is_setting(value)}
        for module in function.modules()
    ]
    codes = sorted(
        code_identity(type(module))
        for module in function.modules()
        if not type(module).__module__.startswith("torch.")
    )
    return [repr(function), settings, codes, params_of(function)]


def _is_setting(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
