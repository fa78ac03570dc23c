"""ProsPr: what a weight does to the loss after a few steps of training."""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.score.gradient import check_batches, twice_differentiable
from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class ProsPr:
    """|dL_M/dm| at m = 1 per weight: L_M the loss after M steps of SGD from m w.

    The derivative goes through the steps, and so has the curvature along them. Momentum is in it
    from the first step on; in the authors' code the first buffer is not. M = 0 is `Saliency`.
    Shapes: one score per weight, in the weight's own shape.

    steps: M. batches: how many the steps take in turn, again from the first when they have run out;
    the last loss is of one more. rate, momentum: of the steps, which move the weights in scope
    alone; biases and normalisation stay. All M graphs are in memory at once.

    Source: Alizadeh et al. 2022, Prospect Pruning (arXiv 2202.08132), the form that differentiates
    through all steps; defaults are those of the authors' command line. Differs: inference mode;
    theirs also moves biases and normalisation.

    Raises:
        RecipeError: a number of steps, batches or examples, a rate or a momentum that cannot be
            meant.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BATCHES})

    steps: int = 3
    batches: int = 1
    batch_size: int = 512
    rate: float = 0.1
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_batches("ProsPr", self.batches, self.batch_size)
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 0:
            raise RecipeError(f"ProsPr(steps={self.steps}): want a whole number, 0 or more.")
        if not (0.0 < self.rate < float("inf") and 0.0 <= self.momentum < 1.0):
            raise RecipeError(
                f"ProsPr(rate={self.rate}, momentum={self.momentum}): want a positive rate, and a "
                "momentum from 0 to less than 1."
            )

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return (self.batches + 1) * self.batch_size

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        names = [layer.name for layer in at.layers]
        masks = [torch.ones_like(at.end[name]).requires_grad_() for name in names]
        weights = [at.end[name] * mask for name, mask in zip(names, masks, strict=True)]
        velocity = [torch.zeros_like(weight) for weight in weights]
        *inner, last = probe.batches(self.batches + 1, self.batch_size)

        def loss(batch: object) -> Tensor:
            with twice_differentiable():
                return probe.loss({**at.end, **dict(zip(names, weights, strict=True))}, batch)

        for batch in islice(cycle(inner), self.steps):
            slopes = torch.autograd.grad(
                loss(batch), weights, create_graph=True, materialize_grads=True
            )
            velocity = [self.momentum * v + s for v, s in zip(velocity, slopes, strict=True)]
            weights = [w - self.rate * v for w, v in zip(weights, velocity, strict=True)]
        found = torch.autograd.grad(loss(last), masks, materialize_grads=True)
        return {name: slope.abs() for name, slope in zip(names, found, strict=True)}
