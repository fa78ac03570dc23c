"""Learning from the outputs of another network as well as from the targets."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.errors import WorldError
from tombola.values.digest import code_identity, digest
from tombola.values.params import params_of
from tombola.world.batch import Batch, leaves
from tombola.world.calling import called, logits
from tombola.world.objective import Call, CrossEntropy, Metric, Objective


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network of any kind to learn from, as it is now: a copy, in inference mode.

    It is called with what the student is called with. Of a study, `study.model(density=.5)` is a
    ticket that was trained; of a ticket file, `ticket.build(MyNet)` one that was not.

    Example:
        >>> teacher = Teacher(nn.Sequential(nn.Dropout(), nn.Linear(4, 3)))
        >>> teacher(torch.ones(2, 4)).shape, teacher.network.training
        (torch.Size([2, 3]), False)

    Raises:
        WorldError: it is no module.
    """

    network: nn.Module

    def __post_init__(self) -> None:
        if not isinstance(self.network, nn.Module):
            raise WorldError(
                f"Teacher({self.network!r:.40}): want a torch.nn.Module that is trained already, "
                "for example study.model()."
            )
        own = copy.deepcopy(self.network).eval().requires_grad_(False)
        object.__setattr__(self, "network", own)

    @cached_property
    def digest(self) -> str:
        """Of its tensors, how it prints, and the code of its classes."""
        classes = {
            code_identity(type(module))
            for module in self.network.modules()
            if not type(module).__module__.startswith("torch.")
        }
        return digest(["teacher", params_of(self.network), repr(self.network), classes])

    def __call__(self, inputs: Any) -> Any:
        device = leaves(inputs)[0].device
        if any(tensor.device != device for tensor in self.network.parameters()):
            self.network.to(device)
        return called(self.network, inputs)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """(1 - weight) hard + weight tau^2 KL(softmax(z_t / tau) || softmax(z_s / tau)), in nats.

    hard: the loss `of` on the targets. z_s, z_t: raw outputs of the network and of the teacher for
    the same inputs, (examples, classes). tau: `temperature`; its square keeps the gradient of the
    soft term of one size for every tau. KL is summed over classes and averaged over examples. The
    teacher runs in inference mode and gets no gradient. With weight 0 it is not asked for, and the
    objective is `of`, bit for bit; with weight 1 the targets are not learned from.

    teacher: any network (`Teacher`); None for the one that is handed over, which for a recipe is
    the dense network of the same seed.

    Source: Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), section 2, for the loss; Ma et al. 2021
    (arXiv 2101.03255) for tickets: soft labels instead of hard ones, so weight 1, the teacher the
    dense network at its last step. Temperature 4 is our choice; theirs could not be verified.

    Raises:
        WorldError: a field out of range.
    """

    temperature: float = 4.0
    weight: float = 1.0
    of: Objective = field(default_factory=CrossEntropy)
    teacher: Teacher | None = None

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
        if self.teacher is not None and not isinstance(self.teacher, Teacher):
            raise WorldError(
                f"Distillation(teacher={type(self.teacher).__name__}): want a tombola.Teacher, for "
                "example Teacher(study.model()), or None for the dense network of the same seed."
            )

    @property
    def given(self) -> frozenset[str]:
        asks = self.weight and self.teacher is None
        return self.of.given | {"teacher"} if asks else self.of.given

    @property
    def brings(self) -> Mapping[str, Teacher]:
        """Networks it has of its own; a training may hand them back as `given`, remembered."""
        return {"teacher": self.teacher} if self.weight and self.teacher is not None else {}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.of.metrics

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        if not self.weight:
            return self.of.loss(call, batch, given)
        outputs = logits(call(batch.inputs))
        # The outputs are handed on: a second pass would draw other dropout.
        hard = self.of.loss(lambda _: outputs, batch, given)
        networks: dict[str, Call] = dict(self.brings)
        teacher = (networks | dict(given))["teacher"]
        with torch.no_grad():
            taught = logits(teacher(batch.inputs))
        self._check_classes(outputs, taught)
        tau = self.temperature
        soft = F.kl_div(
            F.log_softmax(outputs / tau, dim=1),
            F.log_softmax(taught / tau, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1.0 - self.weight) * hard + self.weight * tau**2 * soft

    def _check_classes(self, outputs: Tensor, taught: Any) -> None:
        there = tuple(taught.shape) if isinstance(taught, Tensor) else type(taught).__name__
        if there != tuple(outputs.shape):
            raise WorldError(
                f"Distillation: the teacher's output is {there}, the network's "
                f"{tuple(outputs.shape)}; want the same (examples, classes). Take a teacher of the "
                "same classes."
            )

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        return self.of.penalty(params)

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        return self.of.check_targets(targets, outputs)
