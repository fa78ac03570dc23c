"""Optimal Brain Damage: what the loss gains when a weight alone goes, by its own curvature."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.score.curvature import by_tensor, flat, gauss_newton_diagonal
from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class OBD:
    """h w^2 / 2 per weight: h its own second derivative of the mean loss, on the diagonal.

    To second order, what the loss gains when the weight is cut and nothing else moves, where the
    gradient is zero. h is the diagonal of the Gauss-Newton matrix, exactly. For networks of linear
    layers, convolutions, ReLU and pooling that is the diagonal of the Hessian itself, since their
    outputs are straight lines in any single weight; for cross-entropy it is the diagonal of the
    Fisher matrix with labels drawn from the network. Shapes: as the weights; float64.

    examples: distinct training examples, each differentiated once for each output less one. Where
    there are many outputs, `DiagonalFisher` differentiates each example once.

    Source: LeCun, Denker & Solla 1990, Optimal Brain Damage (NIPS 2), equation 5. Differs: they
    send the diagonal back layer by layer, which drops what units of a layer have in common; any
    loss of the outputs, where they have squared error.

    Raises:
        RecipeError: no examples.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED, Need.BATCHES, Need.OUTPUTS})

    examples: int = 256

    def __post_init__(self) -> None:
        if not isinstance(self.examples, int) or self.examples < 1:
            raise RecipeError(f"OBD(examples={self.examples!r}): want at least one.")

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        curvature = gauss_newton_diagonal(at, probe, self.examples)
        return by_tensor(curvature * flat(at.end, at.layers).double().square() / 2, at.layers)
