"""Where the surviving weights return to, and what the training clock then shows."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from tombola.errors import RecipeError
from tombola.values.handle import Handle
from tombola.values.params import Params
from tombola.values.point import Point


class Rewind(Protocol):
    """A frozen dataclass.

    step: whose weights it wants kept from the dense training. returns: whether weights go back to
    values from before the cut; where they do not, controls are trained from scratch.
    """

    returns: ClassVar[bool]

    @property
    def step(self) -> int: ...

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

    step: int = 0

    def __post_init__(self) -> None:
        if self.step < 0:
            raise RecipeError(f"ToStep(step={self.step}): want a step of the training, 0 or more.")

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        return Point(early.params, None, early.step)


@dataclass(frozen=True, kw_only=True)
class FromCut:
    """From the values that the rule left (`Restarting`), with a fresh optimiser and the clock at 0.

    From the initial values where the rule changed none.
    """

    returns: ClassVar[bool] = True
    step: ClassVar[int] = 0

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        return Point(early.params if changed is None else changed, None, 0)


@dataclass(frozen=True, kw_only=True)
class Untrained:
    """As `FromCut`, but trained no further: the masked network is evaluated where it starts.

    The clock shows the end of training, so that no step is left. Source: Zhou et al. 2019 (arXiv
    1905.01067), section 5: what the mask alone achieves. Controls are not trained either.
    """

    returns: ClassVar[bool] = True
    step: ClassVar[int] = 0

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        return Point(early.params if changed is None else changed, None, end.step)


@dataclass(frozen=True, kw_only=True)
class Stay:
    """Nowhere: go on from the cut weights, with a fresh optimiser, for the last `retrain` steps.

    The clock shows `end.step - retrain`, so the learning rate is the one the schedule has there.
    `retrain=0` evaluates the cut network as it is.
    """

    returns: ClassVar[bool] = False
    step: ClassVar[int] = 0

    retrain: int = 0

    def __post_init__(self) -> None:
        if self.retrain < 0:
            raise RecipeError(f"Stay(retrain={self.retrain}): want a number of steps, 0 or more.")

    def point(self, early: Point, end: Point, changed: Handle[Params] | None) -> Point:
        params = end.params if changed is None else changed
        return Point(params, None, max(0, end.step - self.retrain))
