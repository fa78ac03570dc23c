"""Optimisers and learning-rate schedules as data; only `train` steps them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.pieces.kind import not_a


class Rate(Protocol):
    """A frozen dataclass: the factor on the learning rate at a step."""

    def factor(self, step: int, until: int) -> float:
        """step: 0-based number of the step about to be made. until: length of the training."""
        ...


class Optimiser(Protocol):
    """A frozen dataclass that builds a torch optimiser whose state lives per parameter."""

    @property
    def lr(self) -> float: ...

    @property
    def rate(self) -> Rate: ...

    def build(self, tensors: Sequence[Tensor]) -> torch.optim.Optimizer: ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same rate throughout."""

    def factor(self, step: int, until: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Drops:
    """Multiplied by `by` at each of the steps `at`.

    >>> [Drops(at=(2, 4)).factor(s, 10) for s in (1, 2, 4)] == [1.0, 0.1, 0.1 * 0.1]
    True
    """

    at: tuple[int, ...]
    by: float = 0.1

    def factor(self, step: int, until: int) -> float:
        return math.prod(self.by for drop in self.at if step >= drop)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """From 1 at step 0 to `to` at the end, half a cosine wave.

    >>> [round(Cosine().factor(step, 10), 6) for step in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """

    to: float = 0.0

    def factor(self, step: int, until: int) -> float:
        wave = 0.5 * (1.0 + math.cos(math.pi * step / until))
        return self.to + (1.0 - self.to) * wave


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Linear from 0 over `steps` steps, times another schedule (2019: VGG-19, 20-layer network).

    >>> [WarmUp(steps=4).factor(s, 10) for s in (0, 1, 4, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """

    steps: int
    then: Rate = field(default_factory=Constant)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise WorldError(f"WarmUp(steps={self.steps}): want a number of steps, 1 or more.")
        check_schedule("WarmUp(then=...)", self.then)

    def factor(self, step: int, until: int) -> float:
        return min(1.0, (step + 1) / self.steps) * self.then.factor(step, until)


@dataclass(frozen=True, kw_only=True)
class Stretched:
    """Another schedule made `times` times as long: drops and warm-up keep their relative places.

    >>> slow = Stretched(of=Drops(at=(2, 4)), times=3)
    >>> [slow.factor(step, 30) for step in (5, 6, 11)] == [1.0, 0.1, 0.1]
    True
    """

    of: Rate
    times: float

    def __post_init__(self) -> None:
        if not 0.0 < self.times < math.inf:
            raise WorldError(f"Stretched(times={self.times}): want a number over 0.")
        check_schedule("Stretched(of=...)", self.of)

    def factor(self, step: int, until: int) -> float:
        return self.of.factor(int(step / self.times), round(until / self.times))


@dataclass(frozen=True, kw_only=True)
class LastRate:
    """The rate that another schedule ends with, throughout: fine-tuning (Renda et al. 2020).

    >>> [LastRate(of=Drops(at=(2, 4))).factor(step, 10) == 0.1 * 0.1 for step in (0, 9)]
    [True, True]
    """

    of: Rate

    def factor(self, step: int, until: int) -> float:
        return self.of.factor(until - 1, until)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Kingma & Ba 2015; torch's fused kernel, twice as fast on CPU, with its own rounding."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    rate: Rate = field(default_factory=Constant)

    def __post_init__(self) -> None:
        check_rates("Adam", self)

    def build(self, tensors: Sequence[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(tensors, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    Raises:
        WorldError: a rate that is none, or a decay that takes away a whole weight at each step.
    """

    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    rate: Rate = field(default_factory=Constant)

    def __post_init__(self) -> None:
        check_rates("AdamW", self)
        if not 0.0 <= self.lr * self.weight_decay < 1.0:
            raise WorldError(
                f"AdamW(lr={self.lr}, weight_decay={self.weight_decay}): each step takes the share "
                "lr * weight_decay of a weight away; want 0 or more, under 1."
            )

    def build(self, tensors: Sequence[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            tensors,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent; `weight_decay` is the L2 penalty's factor."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    rate: Rate = field(default_factory=Constant)

    def __post_init__(self) -> None:
        check_rates("SGD", self)
        if not 0.0 <= self.momentum < 1.0:
            raise WorldError(f"SGD(momentum={self.momentum}): want 0 up to, not including, 1.")
        if self.nesterov and self.momentum == 0.0:
            raise WorldError("SGD(nesterov=True) wants a momentum, for example momentum=0.9.")

    def build(self, tensors: Sequence[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            tensors,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )


def check_rates(name: str, optimiser: Optimiser) -> None:
    """Raise WorldError unless the learning rate is a positive finite number with a schedule."""
    lr = optimiser.lr
    if not (isinstance(lr, (int, float)) and math.isfinite(lr) and lr > 0):
        raise WorldError(f"{name}(lr={lr}): want a positive number, for example lr=1e-3.")
    check_schedule(f"{name}(rate=...)", optimiser.rate)


def check_schedule(where: str, rate: object) -> None:
    """Raise WorldError unless this is a schedule of learning rates."""
    wrong = not_a(Rate, rate)
    if wrong:
        raise WorldError(f"{where}: {wrong}; want a schedule, for example Cosine().")
