"""Where weights return to, and what the clock then shows."""

import re
from dataclasses import replace

import pytest
import torch

from tombola.errors import RecipeError
from tombola.pieces.rewind import AtLastRate, FromCut, Rewind, Stay, ToStep, Untrained
from tombola.pieces.setting import Setting
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
        (Stay(retrain=None), None, 2, 0),
        (Stay(retrain=None), CHANGED, 3, 0),
        (AtLastRate(of=Stay(retrain=500)), None, 2, 1_500),
        (AtLastRate(of=ToStep(step=100)), None, 1, 100),
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


def test_what_the_wrapped_rewind_is_stays_but_for_the_rate() -> None:
    for of in (Stay(retrain=500), ToStep(step=100), FromCut(), Untrained()):
        low = AtLastRate(of=of)
        assert (low.returns, low.step) == (of.returns, of.step)
        assert (of.holds_rate, low.holds_rate) == (False, True)


@pytest.mark.parametrize(
    ("rewind", "message"),
    [
        (
            ToStep(step=41),
            r"ToStep\(step=41\) rewinds .* end at step 40; want .* 0 to 40",
        ),
        (
            Stay(retrain=41),
            r"Stay\(retrain=41\) .* have 40; want .* retrain=None for all",
        ),
        (AtLastRate(of=Stay(retrain=41)), r"^Stay\(retrain=41\)"),
        (AtLastRate(of=ToStep(step=41)), r"^ToStep\(step=41\)"),
    ],
)
def test_steps_beyond_training_are_refused(rewind: Rewind, message: str) -> None:
    setting = Setting(layers=(), targets=(), examples=1, steps=40, objective="CrossEntropy")
    refused = rewind.refuses(setting)
    assert refused is not None and re.search(message, refused)
    assert rewind.refuses(replace(setting, steps=41)) is None
