"""Learning from the outputs of another network as well as from the targets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tombola.errors import WorldError
from tombola.world.batch import Batch
from tombola.world.objective import Call, CrossEntropy, Metric, Objective


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """(1 - weight) hard + weight tau^2 KL(softmax(z_t / tau) || softmax(z_s / tau)), in nats.

    hard: the loss `of` on the targets. z_s, z_t: raw outputs of the network and of the teacher for
    the same inputs, (examples, classes). tau: `temperature`; its square keeps the gradient of the
    soft term of one size for every tau. KL is summed over classes and averaged over examples. The
    teacher runs in inference mode and gets no gradient. With weight 0 it is not asked for, and the
    objective is `of`, bit for bit; with weight 1 the targets are not learned from.

    Source: Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), section 2, for the loss; Ma et al. 2021
    (arXiv 2101.03255) for tickets: soft labels instead of hard ones, so weight 1, the teacher the
    dense network at its last step. Temperature 4 is our choice; theirs could not be verified.

    Raises:
        WorldError: a field out of range.
    """

    temperature: float = 4.0
    weight: float = 1.0
    of: Objective = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise WorldError(
                f"Distillation(temperature={self.temperature}): want a positive number, for "
                "example 4; 1 leaves the outputs as they are."
            )
        if not 0.0 <= self.weight <= 1.0:
            raise WorldError(
                f"Distillation(weight={self.weight}): want 0 (targets alone) to 1 (teacher alone)."
            )

    @property
    def given(self) -> frozenset[str]:
        return self.of.given | {"teacher"} if self.weight else self.of.given

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.of.metrics

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        if not self.weight:
            return self.of.loss(call, batch, given)
        outputs = call(batch.inputs)
        # The outputs are handed on: a second pass would draw other dropout.
        hard = self.of.loss(lambda _: outputs, batch, given)
        with torch.no_grad():
            taught = given["teacher"](batch.inputs)
        tau = self.temperature
        soft = F.kl_div(
            F.log_softmax(outputs / tau, dim=1),
            F.log_softmax(taught / tau, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1.0 - self.weight) * hard + self.weight * tau**2 * soft

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        return self.of.penalty(params)

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        return self.of.check_targets(targets, outputs)
