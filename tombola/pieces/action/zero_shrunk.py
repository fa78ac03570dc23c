"""Zero for what training has made smaller."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tombola.pieces.action.action import Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class ZeroShrunk:
    """0 where training has brought a weight nearer to zero, |w_f| < |w_i|; else the initial value.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 4: of weights that are cut, it sorts what
    is frozen at its initial value from what is frozen at zero; of survivors, what starts there.
    Differs: w_i is the initial value in every round; in the authors' code it is the start of the
    round before, so that a survivor once started from zero is so for good.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED})

    def __call__(self, at: Site) -> Tensor:
        return at.start.masked_fill(at.end.abs() < at.start.abs(), 0.0)
