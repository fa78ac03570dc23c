"""Restarting: each action reaches the weights it is for, and no others."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tombola.pieces.action import Constant, KeepSign, Reinit, Rewound, ZeroShrunk
from tombola.pieces.restarting import Restarting
from tombola.pieces.rule import ByScore, Cut
from tombola.pieces.schedule import Target
from tombola.pieces.score import Magnitude, Need, Random, Saliency, Snapshot
from tombola.pieces.setting import Setting
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream

START = Params(
    {
        "w": torch.tensor([0.5, -0.3, 0.9, -0.4, 0.1, 0.7]),
        "v": torch.tensor([1.0, -1.0]),
        "bias": torch.tensor([3.0]),
    }
)
END = Params(
    {
        "w": torch.tensor([0.6, -0.2, 0.8, -0.5, 0.3, 0.05]),
        "v": torch.tensor([2.0, -0.5]),
        "bias": torch.tensor([4.0]),
    }
)
LAYERS = tuple(
    Layer(name=name, shape=tuple(START[name].shape), kind="linear", rate=0.8) for name in "wv"
)
BY_SIZE = ByScore(score=Magnitude())


class OnlyStreams:
    """A probe that has no data."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    def stream(self, *names: object) -> torch.Generator:
        return stream(3, *names)


def cut(rule: Restarting, count: int, end: Params = END, mask: Mask = FULL, number: int = 1) -> Cut:
    at = Snapshot(start=START, end=end, mask=mask, layers=LAYERS)
    target = Target(round=number, density=0.5, counts={"w": count, "v": 2})
    return rule.cut(at, OnlyStreams(), target)


def params(found: Cut) -> Params:
    assert found.params is not None
    return found.params


def test_the_mask_is_the_other_rules_and_biases_return_to_their_initial_values() -> None:
    for rule in (Restarting(rule=BY_SIZE, kept=Reinit()), Restarting(rule=BY_SIZE)):
        found = cut(rule, 3)
        assert found.mask["w"].tolist() == [True, False, True, True, False, False]
        assert params(found)["bias"].tolist() == [3.0]
    assert rule.moves_weights


def test_by_default_everything_is_rewound() -> None:
    assert params(cut(Restarting(rule=BY_SIZE), 3)).digest == START.digest


def test_without_freezing_the_start_holds_at_cut_places_what_they_would_start_from() -> None:
    values = params(cut(Restarting(rule=BY_SIZE, kept=KeepSign(of=Constant())), 3))["w"]
    assert values.abs().unique().numel() == 1
    assert values.sign().equal(START["w"].sign())


def test_survivors_and_cut_weights_have_each_their_own() -> None:
    rule = Restarting(rule=BY_SIZE, kept=KeepSign(of=Constant()), frozen_at=ZeroShrunk())
    found = cut(rule, 3)
    values, kept = params(found)["w"], found.mask["w"]
    assert values[kept].abs().unique().numel() == 1
    assert values[~kept].tolist() == pytest.approx([0.0, 0.1, 0.0])  # shrunk, grown, shrunk


def test_weights_cut_in_earlier_rounds_keep_the_value_they_were_frozen_at() -> None:
    rule = Restarting(rule=BY_SIZE, frozen_at=ZeroShrunk())
    first = cut(rule, 4)
    assert first.mask["w"].tolist() == [True, False, True, True, True, False]
    # Trained on: what is frozen has stayed, what is kept has moved.
    moved = torch.where(first.mask["w"], END["w"] * 0.4, params(first)["w"])
    moved[4] = 0.9
    second = cut(rule, 2, END.replaced({"w": moved}), first.mask, 2)
    assert second.mask["w"].tolist() == [False, False, True, False, True, False]
    frozen = params(second)["w"][~second.mask["w"]].tolist()
    assert frozen == [0.0, 0.0, 0.0, 0.0]  # all four have shrunk since the start
    at_init = Restarting(rule=BY_SIZE, frozen_at=Rewound())
    again = cut(at_init, 2, END.replaced({"w": moved}), first.mask, 2)
    expected = [0.5, moved[1].item(), 0.9, -0.4, 0.1, moved[5].item()]
    assert params(again)["w"].tolist() == pytest.approx(expected)
    assert params(again)["w"][~first.mask["w"]].equal(moved[~first.mask["w"]])


def test_draws_differ_by_round_and_tensor_and_repeat() -> None:
    rule = Restarting(rule=BY_SIZE, kept=Reinit())
    first, again, later = (params(cut(rule, 6, number=number)) for number in (1, 1, 2))
    assert first.digest == again.digest != later.digest
    twin = Layer(name="v", shape=(6,), kind="linear", rate=0.8)
    both = START.replaced({"v": START["w"]})
    at = Snapshot(start=both, end=both, mask=FULL, layers=(LAYERS[0], twin))
    target = Target(round=1, density=1.0, counts={"w": 6, "v": 6})
    drawn = params(rule.cut(at, OnlyStreams(), target))
    assert not drawn["w"].equal(drawn["v"])


def test_what_the_other_rule_did_to_the_weights_is_undone() -> None:
    class Mover(ByScore):
        """Magnitude that also moves weights."""

        def cut(self, at: Snapshot, probe: Any, target: Target) -> Cut:
            found = super().cut(at, probe, target)
            return replace(found, params=at.end.replaced({"w": -at.end["w"]}))

    assert params(cut(Restarting(rule=Mover(score=Magnitude())), 3)).digest == START.digest


def test_needs_asks_and_refusals_are_those_of_the_parts() -> None:
    assert Restarting(rule=ByScore(score=Random())).needs == frozenset()
    assert Restarting(rule=ByScore(score=Saliency())).needs == {Need.BATCHES}
    drawn = ByScore(score=Random())
    assert Restarting(rule=drawn, kept=ZeroShrunk()).needs == {Need.TRAINED}
    assert Restarting(rule=drawn, frozen_at=ZeroShrunk()).needs == {Need.TRAINED}
    target = Target(round=1, density=0.5)
    assert Restarting(rule=BY_SIZE).asks(LAYERS, target) == BY_SIZE.asks(LAYERS, target)
    setting = Setting(
        layers=LAYERS, targets=(), examples=9, steps=1, objective="CrossEntropy", outputs=3
    )
    reason = Restarting(rule=OptimalBrainSurgeon(examples=10)).refuses(setting)
    assert reason is not None and "wants 10 training examples, there are 9" in reason
    assert Restarting(rule=BY_SIZE).refuses(setting) is None


@pytest.mark.parametrize(
    ("frozen_at", "cuts_to_zero", "message"),
    [
        (None, True, None),
        (Rewound(), False, None),
        (Rewound(), True, "the recipe cuts them to zero; give it parametrisation=Frozen()"),
        (None, False, "the recipe freezes them; say at what, for example frozen_at=Rewound()"),
    ],
    ids=["zero", "frozen", "frozen, but cut to zero", "zero, but frozen"],
)
def test_freezing_and_the_parametrisation_must_agree(
    frozen_at: Any, cuts_to_zero: bool, message: str | None
) -> None:
    setting = Setting(
        layers=LAYERS,
        targets=(),
        examples=9,
        steps=1,
        objective="CrossEntropy",
        cuts_to_zero=cuts_to_zero,
    )
    reason = Restarting(rule=BY_SIZE, frozen_at=frozen_at).refuses(setting)
    assert (reason is None) == (message is None)
    assert message is None or message in str(reason)


def test_arguments_are_left_alone() -> None:
    before: list[Tensor] = [tensor.clone() for tensor in (*START.values(), *END.values())]
    cut(Restarting(rule=BY_SIZE, kept=KeepSign(of=Reinit()), frozen_at=ZeroShrunk()), 2)
    now = (*START.values(), *END.values())
    assert all(one.equal(other) for one, other in zip(before, now, strict=True))
