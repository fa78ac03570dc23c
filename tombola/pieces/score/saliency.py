"""Saliency of a connection: how much the loss changes when its weight shrinks."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.score.gradient import check_batches, gradients
from tombola.pieces.score.score import Need, Probe, Snapshot, When


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """|g w| per weight: g the gradient of the loss with respect to the weight w.

    g is the sum over batches of the gradient of each batch's mean loss, in inference mode, w the
    weight at the moment of the cut or the initial one. Equal to |dL/dm| at m = 1 for a mask m that
    multiplies the weights. Shapes: one score per weight, in the weight's own shape; no unit.
    Weights cut to zero before score 0 and never come back, since a cut takes only from what the
    mask still keeps.

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
    when: When = When.END

    def __post_init__(self) -> None:
        check_batches("Saliency", self.batches, self.batch_size)

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return self.batches * self.batch_size

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        names, params = (layer.name for layer in at.layers), at.params(self.when)
        found = gradients(params, names, probe, self.batches, self.batch_size)
        return {name: (gradient * params[name]).abs() for name, gradient in found.items()}
