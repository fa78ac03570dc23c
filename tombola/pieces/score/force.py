"""FORCE: saliency in the network as it is cut, of the weights that were cut too."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.score.gradient import check_batches, gradients
from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class Force:
    """|g w| per weight: g the gradient in the network as it is cut now, w the initial weight.

    Like `Saliency`, but a weight that was cut has a score as well: what it would do to the loss if
    it came back. For a `Stepwise` cut that `revives`. g is the sum over batches of the gradient of
    each batch's mean loss, in inference mode.

    Source: de Jorge, Sanyal, Behl, Torr, Rogez & Dokania 2020, Progressive Skeletonization (arXiv
    2006.09081), which calls it foresight connection sensitivity.

    Raises:
        RecipeError: no batch, or an empty one.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BATCHES})

    batches: int = 1
    batch_size: int = 100

    def __post_init__(self) -> None:
        check_batches("Force", self.batches, self.batch_size)

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return self.batches * self.batch_size

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        names = (layer.name for layer in at.layers)
        found = gradients(at.end, names, probe, self.batches, self.batch_size)
        return {name: (gradient * at.start[name]).abs() for name, gradient in found.items()}
