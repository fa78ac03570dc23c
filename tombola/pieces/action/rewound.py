"""Back to the initial values."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.action.action import Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Rewound:
    """The initial values. Source: Frankle & Carbin 2019 (arXiv 1803.03635), section 1, step 4."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, at: Site) -> Tensor:
        return at.start.clone()
