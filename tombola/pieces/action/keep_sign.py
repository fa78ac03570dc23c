"""The magnitudes of another action under the initial signs."""

from dataclasses import dataclass

from torch import Tensor

from tombola.pieces.action.action import Action, Site
from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class KeepSign:
    """|v| sign(w_i): v of another action, w_i the initial value; 0 where that is 0.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 3: with the sign kept, other values train
    about as well as the original ones.
    """

    of: Action

    @property
    def needs(self) -> frozenset[Need]:
        return self.of.needs

    def __call__(self, at: Site) -> Tensor:
        return self.of(at).abs() * at.start.sign()
