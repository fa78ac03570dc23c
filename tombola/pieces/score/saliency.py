"""Saliency of a connection: how much the loss changes when its weight shrinks."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """|g w| per weight: g the gradient of the loss with respect to the weight w as it is now.

    g is the sum over batches of the gradient of each batch's mean loss, in inference mode. Equal to
    |dL/dm| at m = 1 for a mask m that multiplies the weights. Shapes: one score per weight, in the
    weight's own shape; no unit. Weights cut before score 0 and never come back, since a cut takes
    only from what the mask still keeps.

    Source: Lee, Ajanthan & Torr 2019, SNIP (arXiv 1810.02340), section 4. Differs from the authors'
    code: the weights that are scored are the ones that are trained (there the mask comes from one
    initialisation and training starts from a second); counts are exact (`rule`); no division by
    the sum of all scores, which does not alter the rank. One batch of 100 is theirs for MNIST.

    Raises:
        RecipeError: no batch, or an empty one.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BATCHES})

    batches: int = 1
    batch_size: int = 100

    def __post_init__(self) -> None:
        if self.batches < 1 or self.batch_size < 1:
            raise RecipeError(
                f"Saliency(batches={self.batches}, batch_size={self.batch_size}): want at least "
                "one batch of at least one example."
            )

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return self.batches * self.batch_size

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        weights = {layer.name: at.end[layer.name].clone().requires_grad_() for layer in at.layers}
        losses = [
            probe.loss({**at.end, **weights}, batch)
            for batch in probe.batches(self.batches, self.batch_size)
        ]
        # A tensor the loss does not depend on has gradient 0, not none.
        grads = torch.autograd.grad(
            torch.stack(losses).sum(), tuple(weights.values()), materialize_grads=True
        )
        return {
            name: (grad * weight).detach().abs()
            for (name, weight), grad in zip(weights.items(), grads, strict=True)
        }
