"""An objective that pulls normalisation scales to zero, so that channels which do little show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tombola.errors import WorldError
from tombola.pieces.kind import not_a
from tombola.world.batch import Batch
from tombola.world.objective import Call, Metric, Objective


@dataclass(frozen=True, kw_only=True)
class Slimming:
    """Another objective, and `strength` times the sum of |gamma| over normalisation scales.

    scales: names of the parameters. The gradient is strength * sign(gamma), 0 at 0. What is
    measured is that of the other objective.

    Source: Liu et al. 2017, Network Slimming (arXiv 1708.06519); You et al. 2020 (arXiv
    1909.11957) train so with 1e-4, before the cut and after it.

    Raises:
        WorldError: no objective, no scales, or a strength below 0.

    Example:
        >>> from tombola.world.objective import CrossEntropy
        >>> slim = Slimming(of=CrossEntropy(), scales=("norm.weight",), strength=.5)
        >>> slim.penalty({"norm.weight": torch.tensor([1., -3.]), "fc.weight": torch.ones(9)})
        tensor(2.)
    """

    of: Objective
    scales: tuple[str, ...]
    strength: float = 1e-4

    def __post_init__(self) -> None:
        wrong = not_a(Objective, self.of)
        if wrong:
            raise WorldError(f"Slimming(of=...): {wrong}.")
        if not self.scales or not 0.0 <= self.strength < float("inf"):
            raise WorldError(
                f"Slimming(scales={self.scales!r:.60}, strength={self.strength!r}): want names of "
                "normalisation scales, and a strength of 0 or more."
            )

    @property
    def given(self) -> frozenset[str]:
        return self.of.given

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.of.metrics

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        return self.of.loss(call, batch, given)

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        total = torch.stack([params[name].abs().sum() for name in self.scales]).sum()
        own, other = self.strength * total, self.of.penalty(params)
        return own if other is None else own + other

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        return self.of.check_targets(targets, outputs)


def normalisation_scales(network: nn.Module) -> tuple[str, ...]:
    """Names of the scales of all batch, instance and group normalisation that are trained.

    >>> normalisation_scales(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    ('1.weight',)
    """
    found = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, (_NormBase, nn.GroupNorm)) and module.weight is not None
    }
    return tuple(
        name
        for name, tensor in network.named_parameters()
        if id(tensor) in found and tensor.requires_grad
    )
