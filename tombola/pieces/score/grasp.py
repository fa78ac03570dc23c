"""GraSP: keep the weights whose loss would take gradient from the network."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.score.gradient import check_batches, hessian_vector, twice_differentiable
from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class GraSP:
    """w (H g) per weight: g the gradient of the loss by the weights in scope, H its Hessian.

    To first order, cutting weight q changes |g|^2 / 2 by -w_q (H g)_q. So the lowest scores, which
    go first, are those whose removal *raises* the norm of the gradient. Scores may be negative.
    Shapes: one score per weight, in the weight's own shape.

    The loss is the sum over batches of each batch's mean loss at outputs divided by `temperature`,
    in inference mode. Two passes over several batches, one over a single one; the graph of one
    batch is in memory at a time.

    Source: Wang, Zhang & Grosse 2020 (arXiv 2002.07376), which removes the largest of -w (H g);
    this is its negative, higher meaning keep. 10 examples of each class and a temperature of 200
    are theirs for CIFAR-10. Differs: inference mode, where theirs has the batch's statistics;
    examples are drawn whatever their class.

    Raises:
        RecipeError: no batch, an empty one, or a temperature that is not positive.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BATCHES})

    batches: int = 1
    batch_size: int = 100
    temperature: float = 200.0

    def __post_init__(self) -> None:
        check_batches("GraSP", self.batches, self.batch_size)
        if not 0.0 < self.temperature < float("inf"):
            raise RecipeError(
                f"GraSP(temperature={self.temperature}): want a positive number; 1 leaves the "
                "outputs as they are."
            )

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return self.batches * self.batch_size

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        weights = {layer.name: at.end[layer.name].clone().requires_grad_() for layer in at.layers}
        batches = probe.batches(self.batches, self.batch_size)

        def slopes(batch: object, *, graph: bool) -> tuple[Tensor, ...]:
            with twice_differentiable():
                loss = probe.loss({**at.end, **weights}, batch, temperature=self.temperature)
            return torch.autograd.grad(
                loss, tuple(weights.values()), create_graph=graph, materialize_grads=True
            )

        # A single batch is differentiated once; several again, so that one graph lives at a time.
        several = len(batches) > 1
        of_batches = [slopes(batch, graph=not several) for batch in batches]
        gradient = [torch.stack(parts).sum(0).detach() for parts in zip(*of_batches, strict=True)]
        product = [torch.zeros_like(weight) for weight in weights.values()]
        for batch, once in zip(batches, of_batches, strict=True):
            again = slopes(batch, graph=True) if several else once
            parts = hessian_vector(again, tuple(weights.values()), gradient)
            product = [one + part for one, part in zip(product, parts, strict=True)]
        return {
            name: weight.detach() * along
            for (name, weight), along in zip(weights.items(), product, strict=True)
        }
