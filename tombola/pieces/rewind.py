"""Where the surviving weights return to, and what the training clock then shows."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from tombola.errors import RecipeError
from tombola.pieces.setting import Setting
from tombola.values.handle import Handle
from tombola.values.params import Params
from tombola.values.point import Point


class Rewind(Protocol):
    """A frozen dataclass.

    step: whose weights it wants kept from the dense training. returns: whether weights go back to
    values from before the cut; where they do not, controls are trained from scratch. holds_rate:
    whether retraining keeps the learning rate that training ends with, whatever the clock shows.
    """

    @property
    def returns(self) -> bool: ...

    @property
    def holds_rate(self) -> bool: ...

    @property
    def step(self) -> int: ...

    def refuses(self, setting: Setting) -> str | None:
        """Why it cannot be applied there, or None."""
        ...

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        """Where retraining starts. early: the dense network at `step`. end: the weights just cut.
        changed: the weights after the cut, where the rule changed them."""
        ...


@dataclass(frozen=True, kw_only=True)
class ToStep:
    """Back to the weights of step k of the dense training; the clock shows k, slots are dropped.

    k = 0 is the original ticket (Frankle & Carbin 2019, arXiv 1803.03635, section 1); k > 0 is
    rewinding (Frankle et al. 2020, arXiv 1912.05671, section 2).
    """

    returns: ClassVar[bool] = True
    holds_rate: ClassVar[bool] = False

    step: int = 0

    def __post_init__(self) -> None:
        if self.step < 0:
            raise RecipeError(f"ToStep(step={self.step}): want a step of the training, 0 or more.")

    def refuses(self, setting: Setting) -> str | None:
        if self.step > setting.steps:
            return (
                f"ToStep(step={self.step}) rewinds to step {self.step}, but trainings end at step "
                f"{setting.steps}; want a step from 0 to {setting.steps}."
            )
        return None

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        return Point(early.params, None, early.step)


@dataclass(frozen=True, kw_only=True)
class FromCut:
    """From the values that the rule left (`Restarting`), with a fresh optimiser and the clock at 0.

    From the initial values where the rule changed none.
    """

    returns: ClassVar[bool] = True
    holds_rate: ClassVar[bool] = False
    step: ClassVar[int] = 0

    def refuses(self, setting: Setting) -> str | None:
        return None

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        return Point(early.params if changed is None else changed, None, 0)


@dataclass(frozen=True, kw_only=True)
class Untrained:
    """As `FromCut`, but trained no further: the masked network is evaluated where it starts.

    The clock shows the end of training, so that no step is left. Source: Zhou et al. 2019 (arXiv
    1905.01067), section 5: what the mask alone achieves. Controls are not trained either.
    """

    returns: ClassVar[bool] = True
    holds_rate: ClassVar[bool] = False
    step: ClassVar[int] = 0

    def refuses(self, setting: Setting) -> str | None:
        return None

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        return Point(early.params if changed is None else changed, None, end.step)


@dataclass(frozen=True, kw_only=True)
class Stay:
    """Nowhere: go on from the cut weights, with a fresh optimiser, for the last `retrain` steps.

    The clock shows that many steps before the end, so the learning rate is the one the schedule has
    there: learning-rate rewinding (Renda, Frankle & Carbin 2020, arXiv 2003.02389, section 2).
    `retrain=0` evaluates the cut network as it is; None repeats the whole schedule, warm-up and
    all, which they recommend. Theirs is t in epochs: weights of T - t are `ToStep(step=T - t)`.
    """

    returns: ClassVar[bool] = False
    holds_rate: ClassVar[bool] = False
    step: ClassVar[int] = 0

    retrain: int | None = 0

    def __post_init__(self) -> None:
        if self.retrain is not None and self.retrain < 0:
            raise RecipeError(
                f"Stay(retrain={self.retrain}): want a number of steps, 0 or more, or None for as "
                "many as training has."
            )

    def refuses(self, setting: Setting) -> str | None:
        if self.retrain is not None and self.retrain > setting.steps:
            return (
                f"Stay(retrain={self.retrain}) repeats the last {self.retrain} steps, but "
                f"trainings have {setting.steps}; want at most as many, or retrain=None for all."
            )
        return None

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        params = end.params if changed is None else changed
        return Point(params, None, 0 if self.retrain is None else end.step - self.retrain)


@dataclass(frozen=True, kw_only=True)
class AtLastRate:
    """Another rewind, retrained at the learning rate that training ends with.

    Of `Stay` this is fine-tuning; of `ToStep` the ablation that restores weights without their
    learning rates. Source: Renda et al. 2020 (arXiv 2003.02389), section 2. A schedule that falls
    to zero, such as a cosine, leaves next to nothing to retrain with.

    Example:
        >>> AtLastRate(of=Stay(retrain=50)).point(Point(None, None, 0), Point(None, None, 200),
        ...                                       None).step
        150
    """

    holds_rate: ClassVar[bool] = True

    of: Rewind

    @property
    def returns(self) -> bool:
        return self.of.returns

    @property
    def step(self) -> int:
        return self.of.step

    def refuses(self, setting: Setting) -> str | None:
        return self.of.refuses(setting)

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        return self.of.point(early, end, changed)
