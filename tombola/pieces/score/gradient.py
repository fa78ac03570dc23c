"""Size of the gradient: how fast the loss changes with a weight."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tombola.errors import RecipeError
from tombola.pieces.score.score import Need, Probe, Snapshot, When
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """|g| per weight: g the sum over batches of the gradient of each batch's mean loss.

    In inference mode, at the weights of the moment of the cut or at the initial ones. A weight that
    is cut, at zero, has a gradient too.

    Source: Zhou et al. 2019 (arXiv 1905.01067), whose code ranks by the gradient of the first step
    (`grad`) beside its product with the weight (`snip`, here `Saliency`).

    Raises:
        RecipeError: no batch, or an empty one.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BATCHES})

    batches: int = 1
    batch_size: int = 100
    when: When = When.END

    def __post_init__(self) -> None:
        check_batches("Gradient", self.batches, self.batch_size)

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return self.batches * self.batch_size

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        names, params = (layer.name for layer in at.layers), at.params(self.when)
        found = gradients(params, names, probe, self.batches, self.batch_size)
        return {name: gradient.abs() for name, gradient in found.items()}


def gradients(
    params: Params, names: Iterable[str], probe: Probe, batches: int, size: int
) -> dict[str, Tensor]:
    """Of the sum over `batches` batches of the mean loss, by the tensors of these names."""
    weights = {name: params[name].clone().requires_grad_() for name in names}
    losses = [probe.loss({**params, **weights}, batch) for batch in probe.batches(batches, size)]
    # A tensor the loss does not depend on has gradient 0, not none.
    found = torch.autograd.grad(
        torch.stack(losses).sum(), tuple(weights.values()), materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))


def hessian_vector(
    slopes: Sequence[Tensor], weights: Sequence[Tensor], vector: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The Hessian of a loss by some tensors times a vector, from its gradient and one more pass.

    slopes: the gradient by `weights`, with its graph (`create_graph`), which is used up. vector:
    like the weights. Exact; zero where the gradient does not depend on the weights.

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> slopes = torch.autograd.grad(w[0] * w[1] ** 2, w, create_graph=True)
        >>> hessian_vector(slopes, (w,), (torch.tensor([1.0, 0.0]),))
        (tensor([0., 4.]),)
    """
    along = torch.stack([(s * v).sum() for s, v in zip(slopes, vector, strict=True)]).sum()
    if not along.requires_grad:
        return tuple(torch.zeros_like(weight) for weight in weights)
    return torch.autograd.grad(along, tuple(weights), materialize_grads=True)


def twice_differentiable() -> AbstractContextManager[None]:
    """Inside, attention has second derivatives: torch's fast kernels have none.

    >>> with twice_differentiable():
    ...     pass
    """
    found: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return found


def check_batches(where: str, batches: int, batch_size: int) -> None:
    """Raise a RecipeError unless there is something to take a gradient of."""
    for number in (batches, batch_size):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise RecipeError(
                f"{where}(batches={batches}, batch_size={batch_size}): want whole numbers, at "
                "least one batch of at least one example."
            )
