"""Learning-rate schedules against their formulas, and optimisers as data."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from tombola.errors import WorldError
from tombola.world.optimiser import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Drops,
    Rate,
    Stretched,
    WarmUp,
)

STEPS = range(101)


@pytest.mark.parametrize(
    ("rate", "formula"),
    [
        (Constant(), lambda t: 1.0),
        (Drops(at=(30, 60)), lambda t: 1.0 if t < 30 else 0.1 if t < 60 else 0.01),
        (Drops(at=(60, 30), by=0.5), lambda t: 0.5 ** sum(t >= at for at in (30, 60))),
        (Drops(at=()), lambda t: 1.0),
        (Cosine(), lambda t: (1 + math.cos(math.pi * t / 100)) / 2),
        (Cosine(to=0.25), lambda t: 0.25 + 0.75 * (1 + math.cos(math.pi * t / 100)) / 2),
        (WarmUp(steps=10), lambda t: min(1.0, (t + 1) / 10)),
        (
            WarmUp(steps=10, then=Drops(at=(5, 50))),
            lambda t: min(1.0, (t + 1) / 10) * (1.0 if t < 5 else 0.1 if t < 50 else 0.01),
        ),
        (WarmUp(steps=1, then=Cosine()), lambda t: (1 + math.cos(math.pi * t / 100)) / 2),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_rates_follow_their_formulas(rate: Rate, formula: Any) -> None:
    for step in STEPS:
        assert rate.factor(step, 100) == pytest.approx(formula(step), abs=1e-15)


def test_a_drop_takes_effect_at_the_step_it_names() -> None:
    assert [Drops(at=(3,)).factor(step, 10) for step in (2, 3)] == [1.0, 0.1]


@pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, math.inf, "0.1", None])
@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
def test_a_rate_that_is_none_is_refused(kind: type[Any], lr: Any) -> None:
    with pytest.raises(WorldError, match=rf"{kind.__name__}\(lr={lr}\): want a positive number"):
        kind(lr=lr)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2.0, math.nan])
def test_a_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(WorldError, match=rf"SGD\(momentum={momentum}\): want 0 up to"):
        SGD(lr=0.1, momentum=momentum)


@pytest.mark.parametrize(("lr", "decay"), [(1.0, 1.0), (1_000.0, 0.01), (0.1, -0.1)])
def test_a_decay_that_takes_whole_weights_is_refused(lr: float, decay: float) -> None:
    with pytest.raises(WorldError, match=r"AdamW\(lr=.*weight_decay=.*want 0 or more, under 1"):
        AdamW(lr=lr, weight_decay=decay)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(WorldError, match=r"SGD\(nesterov=True\) wants a momentum"):
        SGD(lr=0.1, nesterov=True)


def test_a_warm_up_of_no_steps_is_refused() -> None:
    with pytest.raises(WorldError, match=r"WarmUp\(steps=0\): want a number of steps, 1 or more"):
        WarmUp(steps=0)


def test_fields_reach_the_optimiser_of_torch() -> None:
    tensors = [nn.Parameter(torch.ones(2))]
    given: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2}
    found = SGD(**given).build(tensors).defaults
    assert given.items() <= found.items()
    assert (found["dampening"], found["maximize"]) == (0, False)
    for kind, torchs in ((Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)):
        built = kind(lr=0.1, betas=(0.5, 0.6), eps=1e-3).build(tensors)
        assert type(built) is torchs
        found = built.defaults
        wanted = {"lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-3, "fused": True}
        assert wanted.items() <= found.items()
        assert not found["amsgrad"]
        assert found["weight_decay"] == (0.01 if kind is AdamW else 0)
    assert AdamW(lr=0.1, weight_decay=0.3).build(tensors).defaults["weight_decay"] == 0.3


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_rate_that_is_no_schedule_is_refused(kind: type) -> None:
    with pytest.raises(WorldError, match=rf"{kind.__name__}\(rate=\.\.\.\): 3 is not a Rate"):
        kind(lr=0.1, rate=3)
    for wrap in (lambda rate: WarmUp(steps=2, then=rate), lambda rate: Stretched(of=rate, times=2)):
        with pytest.raises(WorldError, match=r"Cosine is a class"):
            wrap(Cosine)
