"""WoodFisher against inverses written out, the published recursion, and exact refits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.allocation import Global, Uniform
from tombola.pieces.fisher import InverseFisher, all_at_once, one_at_a_time
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import Magnitude, Need, Snapshot
from tombola.pieces.setting import Setting
from tombola.pieces.woodfisher import Update, WoodFisher
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream

LAYERS = (
    Layer(name="first", shape=(4, 3), kind="linear", rate=0.8),
    Layer(name="last", shape=(3, 4), kind="output", rate=0.9),
)
CUT = Mask({"first": torch.arange(12).reshape(4, 3) % 4 != 1})
GRADIENTS, DAMPING = 20, 1e-2


def draw(*shape: int, of: str) -> Tensor:
    return torch.randn(*shape, generator=stream(5, of), dtype=torch.float64)


class TinyProbe:
    """A 3-4-3 network with tanh, float64; 40 examples."""

    def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        inputs, targets = draw(40, 3, of="inputs"), torch.arange(40) % 3
        picked = (slice(i * size, (i + 1) * size) for i in range(count))
        return [(inputs[part], targets[part]) for part in picked]

    def loss(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        hidden = (batch[0] @ params["first"].T + params["bias"]).tanh()
        return F.cross_entropy(hidden @ params["last"].T, batch[1])


PROBE = TinyProbe()


def snapshot(mask: Mask = FULL) -> Snapshot:
    shapes = {"first": (4, 3), "bias": (4,), "last": (3, 4)}
    params = Params({name: draw(*shape, of=name) for name, shape in shapes.items()})
    return Snapshot(start=params, end=mask.apply(params), mask=mask, layers=LAYERS)


# -- the inverse -----------------------------------------------------------------------------------


def fisher(gradients: Tensor, damping: float) -> Tensor:
    """lambda I + G^T G / N."""
    mean = gradients.T @ gradients / len(gradients)
    return mean + damping * torch.eye(gradients.shape[1]).double()


def by_recursion(gradients: Tensor, damping: float) -> Tensor:
    """As published: from I / lambda, an update of rank one for each gradient."""
    inverse = torch.eye(gradients.shape[1]).double() / damping
    for slope in gradients:
        along = inverse @ slope
        inverse = inverse - torch.outer(along, along) / (len(gradients) + slope @ along)
    return inverse


@pytest.mark.parametrize(("count", "width"), [(7, 30), (30, 7), (1, 4), (12, 12)])
@pytest.mark.parametrize("damping", [1e-5, 1e-2, 10.0])
def test_the_inverse_is_that_of_the_recursion_and_of_the_matrix(
    count: int, width: int, damping: float
) -> None:
    gradients = draw(count, width, of=f"{count} {width}")
    found = InverseFisher.of(gradients, damping)
    exact = torch.linalg.inv(fisher(gradients, damping))
    size = float(exact.abs().max())
    assert float((by_recursion(gradients, damping) - exact).abs().max()) < 1e-5 * size
    columns = torch.stack([found.times(one) for one in torch.eye(width).double()])
    torch.testing.assert_close(columns, exact, rtol=1e-8, atol=1e-10 * size)
    torch.testing.assert_close(found.diagonal(), exact.diagonal(), rtol=1e-8, atol=1e-10 * size)


def test_the_diagonal_never_falls_short_of_what_every_inverse_has() -> None:
    """Where curvature is far above the damping, 1 - (almost 1) leaves rounding alone."""
    gradients = 1e9 * draw(3, 8, of="steep")
    gradients[:, 2] = 1e14
    found = InverseFisher.of(gradients, 1e-6).diagonal()
    least = 1.0 / fisher(gradients, 1e-6).diagonal()
    assert bool((found >= least * (1 - 1e-12)).all())


def test_all_at_once_is_the_optimum_of_the_quadratic_model() -> None:
    gradients, weights = draw(9, 20, of="model"), draw(20, of="weights")
    model, kept = fisher(gradients, 0.1), torch.arange(20) % 3 == 0
    found = all_at_once(weights, gradients, 0.1, kept)
    assert torch.equal(found[~kept], torch.zeros(13).double())
    assert not bool(found[~kept].signbit().any())
    slope = model @ (found - weights)  # zero for every weight that may move
    assert float(slope[kept].abs().max()) < 1e-12
    assert float(slope[~kept].abs().max()) > 1e-2


def test_one_at_a_time_is_the_sum_of_single_updates_and_overshoots() -> None:
    gradients, weights = draw(9, 20, of="model"), draw(20, of="weights")
    model, kept = fisher(gradients, 0.1), torch.arange(20) % 3 == 0
    inverse, expected = torch.linalg.inv(model), weights.clone()
    for q in (~kept).nonzero().squeeze(1).tolist():
        expected -= weights[q] / inverse[q, q] * inverse[:, q]
    expected[~kept] = 0.0
    found = one_at_a_time(weights, gradients, 0.1, kept)
    torch.testing.assert_close(found, expected)

    def rise(now: Tensor) -> float:
        return float((now - weights) @ model @ (now - weights)) / 2

    alone = torch.arange(20) != 4  # of a single weight the two are one
    both = (of(weights, gradients, 0.1, alone) for of in (one_at_a_time, all_at_once))
    torch.testing.assert_close(*both)
    assert rise(all_at_once(weights, gradients, 0.1, kept)) < 0.9 * rise(found)


# -- the rule --------------------------------------------------------------------------------------


def slow_cut(
    at: Snapshot, rule: WoodFisher, keep: int | dict[str, int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and what is kept of each tensor, with every matrix written out."""
    scores, models = {}, {}
    for layer in at.layers:
        kept = at.mask.of(layer.name, layer.shape).flatten()
        rows = []
        for batch in PROBE.batches(rule.gradients, rule.batch_size):
            weight = at.end[layer.name].clone().requires_grad_()
            loss = PROBE.loss({**at.end, layer.name: weight}, batch)
            rows.append(torch.autograd.grad(loss, weight)[0].flatten().float().double())
        gradients = torch.stack(rows)
        for start in range(0, 12, rule.block or 12):
            places = [p for p in range(start, min(12, start + (rule.block or 12))) if kept[p]]
            model = fisher(gradients[:, places], rule.damping)
            models[layer.name, start] = places, model
            for place, value in zip(places, torch.linalg.inv(model).diagonal(), strict=True):
                weight = float(at.end[layer.name].flatten()[place])
                scores[layer.name, place] = weight**2 / (2 * float(value))
    order = sorted(scores, key=lambda key: -scores[key])
    if isinstance(keep, int):
        chosen = set(order[:keep])
    else:
        chosen = {key for name in keep for key in [k for k in order if k[0] == name][: keep[name]]}
    ends, masks = [], []
    for layer in at.layers:
        weights = at.end[layer.name].flatten().clone()
        kept = torch.tensor([(layer.name, place) in chosen for place in range(12)])
        for (name, _), (places, model) in models.items():
            if name == layer.name:
                stay = [i for i, p in enumerate(places) if kept[p]]
                go = [i for i, p in enumerate(places) if not kept[p]]
                lost = model[stay][:, go] @ weights[[places[i] for i in go]]
                moved = torch.linalg.solve(model[stay][:, stay], lost)
                if rule.update is Update.JOINT:
                    weights[[places[i] for i in stay]] += moved
        ends.append(torch.where(kept, weights, torch.zeros(12).double()).reshape(layer.shape))
        masks.append(kept.reshape(layer.shape))
    return ends, masks


@pytest.mark.parametrize("prior", [FULL, CUT], ids=["whole", "cut before"])
@pytest.mark.parametrize("block", [5, 12, None])
@pytest.mark.parametrize("update", [Update.JOINT, Update.NONE], ids=lambda update: update.name)
@pytest.mark.parametrize("counts", [None, {"first": 4, "last": 7}], ids=["together", "by tensor"])
def test_a_cut_is_the_one_with_every_matrix_written_out(
    prior: Mask, block: int | None, update: Update, counts: dict[str, int] | None
) -> None:
    at = snapshot(prior)
    rule = WoodFisher(gradients=GRADIENTS, damping=DAMPING, block=block, update=update)
    ends, masks = slow_cut(at, rule, counts or 12)
    cut = rule.cut(at, PROBE, Target(round=1, density=0.5, counts=counts))
    assert cut.params is not None
    for layer, end, mask in zip(LAYERS, ends, masks, strict=True):
        assert torch.equal(cut.mask.of(layer.name, layer.shape), mask)
        torch.testing.assert_close(cut.params[layer.name], end, rtol=1e-6, atol=1e-8)
    assert torch.equal(cut.params["bias"], at.end["bias"]) and cut.mask <= prior


def test_steps_take_gradients_anew_at_the_weights_as_moved() -> None:
    at, whole = snapshot(), WoodFisher(gradients=GRADIENTS, damping=DAMPING, steps=2)
    once = replace(whole, steps=1)
    half = once.cut(at, PROBE, Target(round=1, density=12 / 24))
    assert half.params is not None
    now = replace(at, mask=half.mask, end=half.params)
    expected = once.cut(now, PROBE, Target(round=1, density=6 / 24))
    found = whole.cut(at, PROBE, Target(round=1, density=6 / 24))
    assert found.mask.digest == expected.mask.digest
    assert found.params is not None and expected.params is not None
    assert found.params.digest == expected.params.digest
    assert found.params.digest != once.cut(at, PROBE, Target(round=1, density=0.25)).params.digest


@pytest.mark.parametrize("why", ["damping", "fitted"])
def test_when_damping_is_all_there_is_the_order_is_that_of_magnitudes(why: str) -> None:
    """What becomes of the empirical Fisher matrix where gradients have vanished."""

    class Fitted(TinyProbe):
        def loss(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
            return 1e-9 * super().loss(params, batch)

    probe, damping = (PROBE, 1e9) if why == "damping" else (Fitted(), 1e-5)
    at, target = snapshot(CUT), Target(round=1, density=0.4)
    cut = WoodFisher(gradients=GRADIENTS, damping=damping).cut(at, probe, target)
    by_size = ByScore(score=Magnitude()).cut(at, probe, target)
    assert cut.mask.digest == by_size.mask.digest
    assert cut.params is not None
    torch.testing.assert_close(
        cut.params["last"], by_size.mask.apply(at.end)["last"], rtol=1e-6, atol=1e-9
    )


def test_blocks_follow_the_order_of_a_tensor_and_do_not_cross_tensors() -> None:
    rule = WoodFisher(block=5)
    there = torch.ones(24, dtype=torch.bool)
    there[[0, 1, 2, 3, 4, 13]] = False  # a block of which nothing is left is none
    found = [(places.tolist(), columns) for places, columns in rule._blocks(LAYERS, there)]
    assert found == [
        ([5, 6, 7, 8, 9], slice(0, 5)),
        ([10, 11], slice(5, 7)),
        ([12, 14, 15, 16], slice(7, 11)),
        ([17, 18, 19, 20, 21], slice(11, 16)),
        ([22, 23], slice(16, 18)),
    ]


def test_equal_scores_leave_exact_counts_the_lower_index_first() -> None:
    even = {layer.name: torch.ones(layer.shape).double() for layer in LAYERS}

    class Flat(TinyProbe):
        def loss(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
            return params["first"].sum() * 0

    at = replace(snapshot(), end=snapshot().end.replaced(even))
    mask = WoodFisher(gradients=3).cut(at, Flat(), Target(round=1, density=10 / 24)).mask
    assert torch.equal(mask.of("first", (4, 3)).flatten(), torch.arange(12) < 10)
    assert mask.kept("last", 12) == 0


# -- what it refuses -------------------------------------------------------------------------------


def setting(**changes: Any) -> Setting:
    facts = {"layers": LAYERS, "targets": (), "examples": 400, "steps": 10, "objective": "Own"}
    return Setting(**facts | changes)


def test_needs_training_and_examples_of_any_loss() -> None:
    assert WoodFisher().needs == {Need.TRAINED, Need.BATCHES}
    assert WoodFisher().refuses(setting()) is None
    assert "wants 400 training examples, there are 399" in str(
        WoodFisher().refuses(setting(examples=399))
    )


def test_says_the_memory_it_would_take_and_what_scales() -> None:
    wide = (Layer(name="wide", shape=(4_000, 5_000), kind="linear", rate=0.8),)
    assert WoodFisher().refuses(setting(layers=wide)) == (
        "WoodFisher(gradients=400) keeps that many gradients of 20,000,000 weights in scope, 32.0 "
        "GB of memory, and its limit is 4 GB. Take fewer gradients (50 would do); a form that "
        "scales, `layerwise` (LayerwiseLeastSquares), which looks at one layer at a time, or "
        "`fisher` (DiagonalFisher); or raise `limit`."
    )
    assert "GB. Take a form" in str(WoodFisher(limit=0.01).refuses(setting(layers=wide)))
    assert WoodFisher(gradients=50).refuses(setting(layers=wide)) is None
    assert WoodFisher(limit=32.1).refuses(setting(layers=wide)) is None


def test_keeps_no_more_than_is_left() -> None:
    with pytest.raises(RecipeError, match="keeps 22 weights of all tensors together, only 21"):
        WoodFisher(gradients=5).cut(snapshot(CUT), PROBE, Target(round=1, density=22 / 24))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gradients": 0}, "at least one gradient of at least one example"),
        ({"block": 0}, r"block=0\): want a whole number"),
        ({"block": 1.5}, r"block=1.5\): want a whole number"),
        ({"steps": 0}, r"steps=0\): want a whole number"),
        ({"damping": 0.0}, r"damping=0.0\): want a positive number"),
        ({"damping": float("nan")}, "want a positive number"),
        ({"limit": 0.0}, r"limit=0.0\): want gigabytes, more than 0"),
        ({"update": "joint"}, "update='joint'"),
        ({"allocation": Global}, "Global is a class"),
    ],
)
def test_fields_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"WoodFisher.*{message}"):
        WoodFisher(**wrong)
    assert WoodFisher(allocation=Uniform()).asks(LAYERS, Target(round=1, density=0.5)) == {
        "first": 6,
        "last": 6,
    }
