"""Another score upside down."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of


@dataclass(frozen=True, kw_only=True)
class Reversed:
    """Keep first what `of` would cut first: of `Magnitude()`, small final; a control.

    Ties still go to the lower index. Source: Zhou et al. 2019 (arXiv 1905.01067), section 2.
    """

    of: Score

    @property
    def needs(self) -> frozenset[Need]:
        return self.of.needs

    @property
    def examples(self) -> int:
        """How many training examples it takes."""
        return examples_of(self.of)

    def __call__(self, at: Snapshot, probe: Probe) -> Mapping[str, Tensor]:
        return {name: -score for name, score in self.of(at, probe).items()}
