"""Units by pooled scores, on arrays written by hand."""

from typing import Any

import pytest
import torch

from tombola.errors import RecipeError
from tombola.pieces.allocation import Uniform
from tombola.pieces.basis import Blocks, Units, counted
from tombola.pieces.by_units import ByUnits, Pool, keep_units
from tombola.pieces.rule import Cut
from tombola.pieces.schedule import Target
from tombola.pieces.score import Magnitude, Saliency, Snapshot
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.units import Coupling, Role, coupled

# Rows of `a` are units 0, 1, 2, read by the columns of `b`; rows of `b` units 0 and 1, read by `c`.
A = torch.tensor([[1.0, -1.0], [0.5, 0.0], [-3.0, 0.0]])
B = torch.tensor([[0.0, 4.0, 0.0], [0.5, 0.0, 0.0]])
C = torch.tensor([[2.0, -0.5]])
TENSORS = {"a.weight": A, "b.weight": B, "c.weight": C}
LAYERS = tuple(
    Layer(name=name, shape=tuple(t.shape), kind="linear", rate=0.8) for name, t in TENSORS.items()
)
SETS = (
    coupled(TENSORS, made=("a.weight",), read=("b.weight",)),
    coupled(TENSORS, made=("b.weight",), read=("c.weight",)),
)


class Traced:
    """A probe that knows the units, and nothing else."""

    def coupling(self) -> Coupling:
        return Coupling(sets=SETS, held={"c.weight": "it is an output of the network"})


def snapshot(mask: Mask = FULL, layers: tuple[Layer, ...] = LAYERS) -> Snapshot:
    params = Params(TENSORS)
    return Snapshot(start=params, end=mask.apply(params), mask=mask, layers=layers)


def cut(rule: ByUnits, target: Target, mask: Mask = FULL) -> Cut:
    probe: Any = Traced()
    return rule.cut(snapshot(mask), probe, target)


def kept(found: Cut) -> list[list[int]]:
    assert found.units is not None
    return [found.units.of(one.name, one.shape).int().tolist() for one in SETS]


ONE_EACH = Target(round=1, density=0.4, counts={"a": 1, "b": 1})
PLAIN = {"score": Magnitude(), "relative": False}


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        # Sums of a's rows: 2, .5, 3; with b's columns 2.5, 4.5, 3.
        (ByUnits(**PLAIN, roles=(Role.MADE,)), [[0, 0, 1], [1, 0]]),
        (ByUnits(**PLAIN), [[0, 1, 0], [1, 0]]),
        # Squares: 2, .25, 9 and with columns 2.25, 16.25, 9.
        (ByUnits(**PLAIN, pool=Pool.L2, roles=(Role.MADE,)), [[0, 0, 1], [1, 0]]),
        (ByUnits(**PLAIN, roles=(Role.READ,)), [[0, 1, 0], [1, 0]]),
    ],
)
def test_scores_are_pooled_over_the_weights_of_a_unit(rule: ByUnits, wanted: Any) -> None:
    assert kept(cut(rule, ONE_EACH)) == wanted


def test_a_cut_unit_loses_what_makes_it_and_what_reads_it() -> None:
    mask = cut(ByUnits(**PLAIN), ONE_EACH).mask
    assert mask["a.weight"].int().tolist() == [[0, 0], [1, 1], [0, 0]]
    assert mask["b.weight"].int().tolist() == [[0, 1, 0], [0, 0, 0]]
    assert mask["c.weight"].int().tolist() == [[1, 0]]


def test_sets_are_ranked_together_by_their_share_of_the_mean() -> None:
    """What reads a unit, plain: a .5, 4, 0; b 2, .5. Over the means: .33, 2.67, 0; 1.6, .4."""
    target = Target(round=1, density=0.6)  # three of five units: the best of each set, and one
    assert kept(cut(ByUnits(**PLAIN, roles=(Role.READ,)), target)) == [[1, 1, 0], [1, 0]]
    shares = ByUnits(score=Magnitude(), roles=(Role.READ,))
    assert kept(cut(shares, target)) == [[0, 1, 0], [1, 1]]


def test_every_set_keeps_its_least() -> None:
    """Plain scores would keep units of one set alone."""
    scores = {"a": torch.tensor([9.0, 8.0, 7.0]), "b": torch.tensor([1.0, 2.0])}
    counts = counted(ByUnits(score=Magnitude()), LAYERS, Traced().coupling)
    found = keep_units(scores, counts, 3, FULL, least=1)
    assert found["a"].tolist() == [True, True, False] and found["b"].tolist() == [False, True]
    found = keep_units(scores, counts, 4, FULL, least=2)
    assert found["a"].tolist() == [True, True, False] and "b" not in found
    rule = ByUnits(score=Magnitude())
    assert rule.asks(counts, Target(round=9, density=0.01)) == 2
    assert rule.asks(counts, Target(round=9, density=0.0, counts={"a": 0, "b": 2})) == {
        "a": 1,
        "b": 2,
    }
    shared = ByUnits(score=Magnitude(), allocation=Uniform(), least=2)
    assert shared.asks(counts, Target(round=1, density=0.4)) == {"a": 2, "b": 2}


def test_ties_go_to_the_earlier_set_then_the_lower_number() -> None:
    scores = {"a": torch.ones(3), "b": torch.ones(2)}
    counts = counted(ByUnits(score=Magnitude()), LAYERS, Traced().coupling)
    found = keep_units(scores, counts, 3, FULL, least=1)
    assert found["a"].tolist() == [True, True, False] and found["b"].tolist() == [True, False]


def test_units_that_are_gone_do_not_come_back() -> None:
    first = cut(ByUnits(**PLAIN), Target(round=1, density=0.6, counts={"a": 2, "b": 1}))
    assert kept(first) == [[0, 1, 1], [1, 0]]
    again = cut(ByUnits(**PLAIN, roles=(Role.MADE,)), ONE_EACH, first.mask)
    assert kept(again) == [[0, 0, 1], [1, 0]] and again.mask <= first.mask
    with pytest.raises(RecipeError, match="only 3 are left"):
        cut(ByUnits(**PLAIN), Target(round=2, density=1.0), first.mask)
    with pytest.raises(RecipeError, match="keeps 2 weights of b, only 1 are left"):
        cut(ByUnits(**PLAIN), Target(round=2, density=1.0, counts={"a": 2, "b": 2}), first.mask)


def setting(**changes: Any) -> Setting:
    facts: dict[str, Any] = {
        "layers": LAYERS,
        "counted": counted(ByUnits(score=Magnitude()), LAYERS, Traced().coupling),
        "targets": (Target(round=1, density=0.4),),
        "examples": 50,
        "steps": 10,
        "objective": "CrossEntropy",
    }
    return Setting(**facts | changes)


def test_a_target_that_would_empty_a_set_is_refused() -> None:
    rule = ByUnits(score=Magnitude())
    assert rule.refuses(setting()) is None
    reason = rule.refuses(setting(targets=(Target(round=4, density=0.2),)))
    assert reason is not None
    assert "round 4 keeps 1 of 5 units" in reason and "(a, b, ..) would be emptied" in reason
    assert "density of 0.4 or more" in reason
    few = ByUnits(score=Saliency(batch_size=51)).refuses(setting())
    assert few == "Saliency wants 51 training examples, there are 50; ask for fewer."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ByUnits(score=3), r"ByUnits\(score=\.\.\.\): 3 is not a Score"),
        (lambda: ByUnits(score=Magnitude(), basis=4), "4 is not a Basis: it has no sets"),
        (lambda: ByUnits(score=Magnitude(), roles=(Role.BESIDE,)), "want Role.MADE, Role.READ"),
        (lambda: ByUnits(score=Magnitude(), least=0), "a set without units would cut the network"),
        (lambda: Units(given=()), "want sets of units with different names"),
        (lambda: Units(given=(SETS[0], SETS[0])), "with different names"),
        (lambda: Units(given=("a",)), "made by tombola.coupled"),
        (lambda: Blocks(rows=0), r"Blocks\(rows=0\): want a whole number"),
        (lambda: Blocks(columns=2.5), r"Blocks\(columns=2.5\)"),
    ],
)
def test_pieces_that_mean_nothing_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


def test_nothing_to_cut_says_what_stands_in_the_way() -> None:
    last = tuple(layer for layer in LAYERS if layer.name == "c.weight")
    with pytest.raises(RecipeError, match=r"c\.weight: it is an output of the network"):
        Units().sets(last, Traced().coupling)
    with pytest.raises(RecipeError, match=r"a is read by \['b.weight'\], out of scope"):
        Units(given=SETS[:1]).sets(LAYERS[:1], Traced().coupling)


def test_blocks_of_a_convolution_lie_over_its_inputs_and_window() -> None:
    conv = Layer(name="conv.weight", shape=(2, 3, 2, 2), kind="conv", rate=0.8)
    (one,) = Blocks(rows=1, columns=6).sets((conv,), Traced().coupling)
    assert (one.name, one.shape) == ("conv", (2, 2))
    flat = one.slices[0].unit.reshape(2, 12)
    assert flat.tolist() == [[0] * 6 + [1] * 6, [2] * 6 + [3] * 6]
    with pytest.raises(RecipeError, match=r"columns=5\) does not divide 'conv.weight', .* 2 x 12"):
        Blocks(rows=1, columns=5).sets((conv,), Traced().coupling)


def test_blocks_are_cut_whole() -> None:
    weight = torch.tensor([[9.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    layer = Layer(name="w.weight", shape=(2, 4), kind="linear", rate=0.8)
    params, probe = Params({"w.weight": weight}), Traced()
    at = Snapshot(start=params, end=params, mask=FULL, layers=(layer,))
    rule = ByUnits(score=Magnitude(), basis=Blocks(rows=2, columns=2))
    found = rule.cut(at, probe, Target(round=1, density=0.5))  # type: ignore[arg-type]
    assert found.mask["w.weight"].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
