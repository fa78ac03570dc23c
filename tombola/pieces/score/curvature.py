"""Second derivatives of the loss by the weights in scope: Gauss-Newton matrix, single gradients."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.functional import hessian
from torch.func import jacrev

from tombola.errors import RecipeError
from tombola.pieces.score.score import Probe, Snapshot
from tombola.values.layer import Layer
from tombola.values.params import Params

# The vector of all weights in scope has the tensors of `Snapshot.layers` one after the other, each
# in its own order; so the weights into one unit lie side by side.


def flat(tensors: Mapping[str, Tensor], layers: tuple[Layer, ...]) -> Tensor:
    """The tensors of these layers as one vector, (weights in scope,)."""
    return torch.cat([tensors[layer.name].reshape(-1) for layer in layers])


def still_there(at: Snapshot) -> Tensor:
    """Which of the weights in scope are kept so far, bool (weights in scope,)."""
    return torch.cat([at.mask.of(layer.name, layer.shape).reshape(-1) for layer in at.layers])


def by_tensor(vector: Tensor, layers: tuple[Layer, ...]) -> dict[str, Tensor]:
    """The inverse of `flat`."""
    parts = torch.split(vector, [layer.count for layer in layers])
    return {
        layer.name: part.reshape(layer.shape) for layer, part in zip(layers, parts, strict=True)
    }


def gradients_one_by_one(at: Snapshot, probe: Probe, count: int, size: int) -> Iterator[Tensor]:
    """The gradients of `count` batches' mean losses by the weights in scope, each by itself.

    Each (weights in scope,), cut weights included, in the network's own dtype. Batches of one
    example unless `size` says otherwise: the square of a batch's mean is not the mean of squares.
    """
    weights = {layer.name: at.end[layer.name].clone().requires_grad_() for layer in at.layers}
    for batch in probe.batches(count, size):
        loss = probe.loss({**at.end, **weights}, batch)
        slopes = torch.autograd.grad(loss, tuple(weights.values()), materialize_grads=True)
        yield torch.cat([slope.reshape(-1) for slope in slopes])


def moved(params: Params, vector: Tensor, layers: tuple[Layer, ...]) -> Params:
    """`params` with the weights in scope as in a vector, each tensor in its own dtype."""
    parts = by_tensor(vector, layers)
    return params.replaced({name: part.to(params[name].dtype) for name, part in parts.items()})


def check_gradients(where: str, gradients: int, batch_size: int) -> None:
    """Raise a RecipeError unless there is a gradient to take."""
    for number in (gradients, batch_size):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise RecipeError(
                f"{where}(gradients={gradients!r}, batch_size={batch_size!r}): want whole numbers, "
                "at least one gradient of at least one example."
            )


def output_curvature(probe: Probe, raw: Tensor, example: Any) -> Tensor:
    """The Hessian of one example's loss by its raw outputs, (outputs, outputs) float64."""

    def loss(outputs: Tensor) -> Tensor:
        return probe.loss_at(outputs.reshape(raw.shape), example)

    found: Tensor = hessian(loss, raw.detach().double().reshape(-1))
    return found


def gauss_newton(at: Snapshot, probe: Probe, examples: int, there: Tensor) -> Tensor:
    """The Hessian of the mean loss without the curvature of the network itself.

    (1/P) sum_p J_p^T C_p J_p: J_p the derivatives of the raw outputs of example p by the weights,
    C_p the Hessian of its loss by its outputs. there: bool (weights in scope,), which of them it is
    over, n in all. Returns (n, n) float64.
    """

    def outputs(weights: dict[str, Tensor], example: Any) -> tuple[Tensor, Tensor]:
        raw = probe.outputs({**at.end, **weights}, example)
        return raw.reshape(-1), raw

    weights = {layer.name: at.end[layer.name] for layer in at.layers}
    n = int(there.sum())
    total = torch.zeros(n, n, dtype=torch.float64)
    for example in probe.batches(examples, 1):
        by_name, raw = jacrev(outputs, has_aux=True)(weights, example)
        slopes = torch.cat([by_name[name].flatten(1) for name in weights], dim=1)
        slopes = slopes[:, there].double()  # (outputs, n)
        total.addmm_(slopes.T, output_curvature(probe, raw, example) @ slopes)
    return total.div_(examples)


def gauss_newton_diagonal(at: Snapshot, probe: Probe, examples: int) -> Tensor:
    """The diagonal of `gauss_newton` over all weights in scope, (weights in scope,) float64.

    One pass back for each direction in which the loss of an example curves with its outputs, one
    fewer than classes for cross-entropy; memory is that of a few gradients.
    """
    weights = {layer.name: at.end[layer.name].clone().requires_grad_() for layer in at.layers}
    total = torch.zeros(sum(layer.count for layer in at.layers), dtype=torch.float64)
    for example in probe.batches(examples, 1):
        raw = probe.outputs({**at.end, **weights}, example)
        sizes, directions = torch.linalg.eigh(output_curvature(probe, raw, example))
        for place in (sizes.abs() > 1e-12 * sizes.abs().max()).nonzero().squeeze(1).tolist():
            along = directions[:, place].to(raw.dtype).reshape(raw.shape)
            slopes = torch.autograd.grad(
                raw, tuple(weights.values()), along, retain_graph=True, materialize_grads=True
            )
            slope = torch.cat([part.reshape(-1) for part in slopes]).double()
            total.addcmul_(slope, slope, value=float(sizes[place]))
    return total.div_(examples)
