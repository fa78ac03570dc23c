"""Gradual magnitude pruning: dense at first, cut during training along a cubic curve."""

from dataclasses import dataclass, replace
from typing import ClassVar

from tombola.errors import RecipeError
from tombola.pieces.dynamics.dynamics import Moment, Move
from tombola.pieces.dynamics.ending import Ending, told
from tombola.pieces.dynamics.exchange import check_parts, moved
from tombola.pieces.schedule import round_half_up
from tombola.pieces.setting import Setting
from tombola.values.mask import Mask
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class Gradual:
    """From the whole network to what the target asks for, by |w|, within one training.

    At every `every`-th step from t0 = `begin` times the length to T = `until` times it, and at T,
    a tensor of n weights that is to end with k keeps k + round((n - k)(1 - x)^3) of those it still
    has, x = (t - t0) / (T - t0). Where the rule's allocation gives one number for all tensors, they
    compete for it. Cuts are for good: +0.0 with optimiser state 0. The optimiser's step follows, on
    what is left. Ties keep the lower index.

    Source: Zhu & Gupta 2017 (arXiv 1710.01878), equation 1; when, as in the MNIST runs of Evci et
    al. 2022 (arXiv 2010.03533), from step 3,000 to 7,000 of 11,719 every 100. Differs: Zhu & Gupta
    keep the values of cut weights, out of use, and let them come back.

    Raises:
        RecipeError: begin or until not in (0, 1], begin not before until, or every less than 1.

    Example:
        >>> [round(Gradual().share(step, 1_000), 3) for step in (249, 250, 350, 600)]
        [1.0, 1.0, 0.364, 0.0]
    """

    moves: ClassVar[bool] = True
    reads_gradients: ClassVar[bool] = False

    begin: float = 0.25
    until: float = 0.6
    every: int = 100
    ending: Ending | None = None

    def __post_init__(self) -> None:
        check_parts(self, "begin", "until")
        if not self.begin < self.until:
            raise RecipeError(
                f"Gradual(begin={self.begin}, until={self.until}): want begin before until."
            )
        if self.every < 1:
            raise RecipeError(f"Gradual(every={self.every}): want a number of steps, 1 or more.")

    @property
    def redistributes(self) -> bool:
        return self.ending is not None and isinstance(self.ending.asked, int)

    def opening(self, density: float) -> float:
        return 1.0

    def ending_with(self, ending: Ending) -> "Gradual":
        return replace(self, ending=ending)

    def refuses(self, setting: Setting) -> str | None:
        first, last = self._span(setting.steps)
        if first + self.every <= last:
            return None
        return (
            f"Gradual(begin={self.begin}, until={self.until}, every={self.every}) cuts from step "
            f"{first} to {last} of {setting.steps}, which leaves no step between; take a smaller "
            "`every`."
        )

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({})

    def needs(self, state: Params, step: int, until: int) -> bool:
        first, last = self._span(until)
        return (first < step < last and (step - first) % self.every == 0) or step == last

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        share = self.share(step, moment.until)
        found = told(self, self.ending).keep(moment.coords, moment.mask, share)
        return moved(state, moment, step, found, replaces_step=False)

    def share(self, step: int, until: int) -> float:
        """(1 - x)^3: the share still there, at a step, of the weights that will be cut."""
        first, last = self._span(until)
        x = (step - first) / (last - first)
        return (1.0 - min(1.0, max(0.0, x))) ** 3

    def _span(self, until: int) -> tuple[int, int]:
        """t0, and T: the step of the last cut, at least one before the end."""
        return round_half_up(self.begin * until), min(round_half_up(self.until * until), until - 1)
