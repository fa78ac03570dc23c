"""Where weights return to, and what the clock then shows."""

import pytest
import torch

from tombola.errors import RecipeError
from tombola.pieces.rewind import FromCut, Rewind, Stay, ToStep, Untrained
from tombola.values.params import Params
from tombola.values.point import Point


def params(value: float) -> Params:
    return Params({"w": torch.tensor([value])})


SLOTS = Params({"momentum_buffer/w": torch.ones(1)})
EARLY, END, CHANGED = Point(params(1), SLOTS, 100), Point(params(2), SLOTS, 2_000), params(3)


@pytest.mark.parametrize(
    ("rewind", "changed", "value", "step"),
    [
        (ToStep(step=100), None, 1, 100),
        (ToStep(step=100), CHANGED, 1, 100),  # what the rule did to the weights is undone
        (Stay(), None, 2, 2_000),
        (Stay(), CHANGED, 3, 2_000),
        (Stay(retrain=500), CHANGED, 3, 1_500),
        (Stay(retrain=9_999), None, 2, 0),
        (FromCut(), CHANGED, 3, 0),
        (FromCut(), None, 1, 0),
        (Untrained(), CHANGED, 3, 2_000),
        (Untrained(), None, 1, 2_000),
    ],
)
def test_where_training_goes_on(
    rewind: Rewind, changed: Params | None, value: float, step: int
) -> None:
    point = rewind.point(EARLY, END, changed)
    assert point.params.load()["w"].item() == value
    assert point.step == step
    assert point.slots is None  # always a fresh optimiser


def test_the_clock_is_that_of_the_weights_returned_to() -> None:
    assert ToStep().point(Point(params(1), None, 0), END, None).step == 0
    assert (ToStep().step, ToStep(step=7).step, Stay(retrain=7).step) == (0, 7, 0)


def test_steps_before_the_start_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"ToStep\(step=-1\): want a step .*0 or more"):
        ToStep(step=-1)
    with pytest.raises(RecipeError, match=r"Stay\(retrain=-1\): want a number of steps"):
        Stay(retrain=-1)
