"""Scores of the untrained network, each against its definition, slowly; and cutting in steps."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.errors import RecipeError
from tombola.pieces.allocation import Uniform
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import (
    Force,
    GraSP,
    Magnitude,
    Need,
    ProsPr,
    Reversed,
    Saliency,
    Score,
    Snapshot,
    SynFlow,
)
from tombola.pieces.setting import Setting
from tombola.pieces.stepwise import Stepwise
from tombola.testing import toy_world
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.catalogue import sentences_number
from tombola.world.data.split import Split
from tombola.world.networks import NETWORKS
from tombola.world.probe import NetworkProbe
from tombola.world.world import World, initial_params

LAYERS = (
    Layer(name="first", shape=(4, 3), kind="linear", rate=0.8),
    Layer(name="last", shape=(2, 4), kind="output", rate=0.9),
)
NAMES = ("first", "last")
CUT = Mask(
    {"first": torch.arange(12).reshape(4, 3) % 4 != 1, "last": torch.arange(8).view(2, 4) > 1}
)


def draw(*shape: int, of: str) -> Tensor:
    return torch.randn(*shape, generator=stream(7, of), dtype=torch.float64)


class TinyProbe:
    """A 3-4-2 network with tanh, float64; 24 examples. Its flow has no activation and no bias."""

    def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        inputs, targets = draw(24, 3, of="inputs"), torch.arange(24) % 2
        picked = (slice(i * size, (i + 1) * size) for i in range(count))
        return [(inputs[part], targets[part]) for part in picked]

    def loss(self, params: Mapping[str, Tensor], batch: Any, *, temperature: float = 1.0) -> Tensor:
        return F.cross_entropy(self.outputs(params, batch) / temperature, batch[1])

    def outputs(self, params: Mapping[str, Tensor], batch: Any) -> Tensor:
        return (batch[0] @ params["first"].T + params["bias"]).tanh() @ params["last"].T

    def flow(self, params: Mapping[str, Tensor]) -> Tensor:
        return (torch.ones(3, dtype=torch.float64) @ params["first"].T @ params["last"].T).sum()

    def stream(self, *names: object) -> torch.Generator:
        return stream(0, *names)


PROBE = TinyProbe()


def snapshot(mask: Mask = FULL) -> Snapshot:
    shapes = {"first": (4, 3), "bias": (4,), "last": (2, 4)}
    params = Params({name: draw(*shape, of=name) for name, shape in shapes.items()})
    return Snapshot(start=params, end=mask.apply(params), mask=mask, layers=LAYERS)


def flat(scores: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([scores[name].flatten() for name in NAMES])


def parts(values: Tensor) -> dict[str, Tensor]:
    return {"first": values[:12].reshape(4, 3), "last": values[12:].reshape(2, 4)}


def slope(function: Callable[[Tensor], float], at: Tensor, place: int, h: float = 1e-5) -> float:
    """Central difference of a function of 20 numbers in one of them."""
    step = torch.zeros_like(at)
    step[place] = h
    return (function(at + step) - function(at - step)) / (2 * h)


# -- GraSP -----------------------------------------------------------------------------------------


def gradient_norm(at: Snapshot, weights: Tensor, score: GraSP) -> float:
    """|g|^2 / 2 over all weights, of the sum of batch losses at the score's temperature."""
    weights = weights.clone().requires_grad_()
    batches = PROBE.batches(score.batches, score.batch_size)
    params = {**at.end, **parts(weights)}
    losses = [PROBE.loss(params, batch, temperature=score.temperature) for batch in batches]
    (gradient,) = torch.autograd.grad(sum(losses), weights)
    return float(gradient.square().sum() / 2)


@pytest.mark.parametrize("mask", [FULL, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_grasp_is_what_the_gradient_norm_loses_when_a_weight_shrinks(
    mask: Mask, batches: int, temperature: float
) -> None:
    at, score = snapshot(mask), GraSP(batches=batches, batch_size=12, temperature=temperature)
    weights, found = flat(at.end), flat(score(at, PROBE))
    for place in range(20):
        expected = weights[place] * slope(lambda w: gradient_norm(at, w, score), weights, place)
        assert float(found[place]) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


def test_grasp_keeps_what_leaves_the_larger_gradient() -> None:
    """The sign on which codes differ: cutting the lowest scores raises the norm."""
    curvature = torch.tensor([[3.0, -1.0, 0.0], [-1.0, 2.0, 0.5], [0.0, 0.5, 1.0]]).double()

    class Bowl(TinyProbe):
        def loss(
            self, params: Mapping[str, Tensor], batch: Any, *, temperature: float = 1.0
        ) -> Tensor:
            return params["w"] @ curvature @ params["w"] / 2

    weights = torch.tensor([0.5, 1.0, -1.5]).double()
    layer = Layer(name="w", shape=(3,), kind="linear", rate=0.8)
    at = Snapshot(
        start=Params({"w": weights}), end=Params({"w": weights}), mask=FULL, layers=(layer,)
    )
    left = []
    for score in (GraSP(), Reversed(of=GraSP())):
        target = Target(round=1, density=2 / 3)
        mask = ByScore(score=score).cut(at, Bowl(), target).mask
        left.append(float((curvature @ mask.apply(at.end)["w"]).norm()))
    assert left[0] > 1.1 * left[1]


# -- SynFlow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [FULL, CUT], ids=["whole", "cut"])
def test_synflow_is_the_sum_over_the_paths_through_a_weight(mask: Mask) -> None:
    at = snapshot(mask)
    first, last = at.end["first"].abs(), at.end["last"].abs()
    expected = {name: torch.zeros_like(at.end[name]) for name in NAMES}
    for i, j, o in product(range(3), range(4), range(2)):
        path = first[j, i] * last[o, j]
        expected["first"][j, i] += path
        expected["last"][o, j] += path
    found = SynFlow()(at, PROBE)
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=0.0)
        assert torch.equal(found[name] == 0, expected[name] == 0)


def test_synflow_is_conserved_layer_by_layer_and_unit_by_unit() -> None:
    world = toy_world()  # its biases start at zero
    at = begun(world)
    found = SynFlow()(at, NetworkProbe(world, 0))
    one, two, three = (found[layer.name] for layer in world.layers)
    torch.testing.assert_close(one.sum(), three.sum(), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(one.sum(1), two.sum(0), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(two.sum(1), three.sum(0), rtol=1e-12, atol=0.0)
    assert one.dtype == torch.float64


class Normed(nn.Sequential):
    """Convolutions with normalisation of three kinds."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 4, 3, bias=False),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.Conv1d(4, 4, 1, bias=False),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.Flatten(),
            nn.LayerNorm(16),
            nn.Linear(16, 3),
        )


def test_synflow_asks_nothing_of_running_statistics_nor_of_the_batch() -> None:
    world = toy_world(model=Normed)
    at, probe = begun(world), NetworkProbe(world, 0)
    found = SynFlow()(at, probe)
    seen = {"2.running_mean": torch.full((4,), 9.0), "2.running_var": torch.full((4,), 7.0)}
    later = SynFlow()(replace(at, end=at.end.replaced(seen)), probe)
    totals = [float(score.sum()) for score in found.values()]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-12) and totals[0] > 0
    assert all(torch.equal(found[name], later[name]) for name in found)
    wider = at.end.replaced({"2.weight": -2 * at.end["2.weight"]})
    scaled = SynFlow()(replace(at, end=wider), probe)
    torch.testing.assert_close(scaled["1.weight"], 2 * found["1.weight"])


def test_synflow_does_not_vanish_where_float32_would() -> None:
    class Deep(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*(nn.Linear(6, 6, bias=False) for _ in range(30)), nn.Linear(6, 3))
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=1e-3)

    world = toy_world(model=Deep)
    at = begun(world)
    found = SynFlow()(at, NetworkProbe(world, 0))
    assert max(float(score.max()) for score in found.values()) < torch.finfo(torch.float32).tiny
    assert all(bool((score > 0).all()) for score in found.values())


def begun(world: World) -> Snapshot:
    """The network before training."""
    start = initial_params(world, 0)
    return Snapshot(start=start, end=start, mask=FULL, layers=world.layers)


WIDTH = {"vgg19": 0.125, "lenet": 1.0, "resnet20": 0.5}


def on_noise(name: str) -> World:
    """A network of the catalogue on images of noise; thinner, for time."""
    network = NETWORKS[name]
    images = Split(torch.zeros(128, 3, 32, 32, dtype=torch.uint8), torch.arange(128) % 10)
    world = network({"train": images, "validation": images, "test": images}, name)
    thin = world.thin
    return replace(world, model=lambda: thin(WIDTH.get(name, 0.25)))


def cut_by_synflow(name: str, count: int, steps: int) -> tuple[dict[str, int], Params, World]:
    """A network of the catalogue cut to `count` weights: what each tensor keeps, what is left."""
    world = on_noise(name)
    at, probe = begun(world), NetworkProbe(world, 0)
    target = Target(round=1, density=count / sum(layer.count for layer in at.layers))
    mask = Stepwise(score=SynFlow(), steps=steps).cut(at, probe, target).mask
    kept = {layer.name: mask.kept(layer.name, layer.count) for layer in at.layers}
    assert sum(kept.values()) == count
    return kept, mask.apply(at.end), world


def carries(params: Params, world: World) -> bool:
    """Whether a path leads through the network."""
    positive = {n: t.double().abs() if t.is_floating_point() else t for n, t in params.items()}
    return float(NetworkProbe(world, 0).flow(positive)) > 0


@pytest.mark.parametrize("name", ["lenet", "conv2", "conv4", "conv6", "vgg19"])
def test_synflow_keeps_every_layer_alive_down_to_ten_weights_a_layer(name: str) -> None:
    layers = len(on_noise(name).layers)
    kept, params, world = cut_by_synflow(name, 10 * layers, steps=30)
    assert len(kept) == layers and min(kept.values()) >= 5
    found = SynFlow()(replace(begun(world), end=params), NetworkProbe(world, 0))
    assert all(bool((score > 0).any()) for score in found.values())


def test_synflow_in_one_step_cuts_whole_layers_off() -> None:
    """The default of its public code; the paper's hundred have to be asked for there."""
    kept, params, world = cut_by_synflow("vgg19", 320, steps=1)
    assert min(kept.values()) == 0 and not carries(params, world)
    kept, params, world = cut_by_synflow("vgg19", 320, steps=30)
    assert min(kept.values()) > 0 and carries(params, world)


def test_synflow_empties_residual_blocks_whole_where_a_shortcut_leads_past() -> None:
    """At 1 % every layer lives; far below, a block may go, and the network stays connected."""
    kept, _, _ = cut_by_synflow("resnet20", 670, steps=20)
    assert min(kept.values()) > 0
    kept, params, world = cut_by_synflow("resnet20", 190, steps=30)
    empty = {name.rsplit(".", 2)[0] for name, count in kept.items() if count == 0}
    assert empty and all(kept[f"{block}.conv{i}.weight"] == 0 for block in empty for i in (1, 2))
    assert kept["conv.weight"] > 0 and carries(params, world)


def test_synflow_on_attention_empties_queries_and_keys_first() -> None:
    """They choose among paths and carry none."""
    world = sentences_number()
    at = begun(world)
    target = Target(round=1, density=0.1)
    mask = Stepwise(score=SynFlow(), steps=10).cut(at, NetworkProbe(world, 0), target).mask
    for layer in at.layers:
        chooses = ".query." in layer.name or ".key." in layer.name
        assert (mask.kept(layer.name, layer.count) == 0) == chooses


# -- ProsPr ----------------------------------------------------------------------------------------


def later_loss(at: Snapshot, score: ProsPr, masks: Tensor) -> float:
    """The loss after M steps of torch's own SGD from masked weights."""
    weights = {name: (at.end[name] * mask).requires_grad_() for name, mask in parts(masks).items()}
    optimiser = torch.optim.SGD(weights.values(), lr=score.rate, momentum=score.momentum)
    *inner, last = PROBE.batches(score.batches + 1, score.batch_size)
    for step in range(score.steps):
        optimiser.zero_grad()
        PROBE.loss({**at.end, **weights}, inner[step % len(inner)]).backward()
        optimiser.step()
    return float(PROBE.loss({**at.end, **weights}, last).detach())


@pytest.mark.parametrize("mask", [FULL, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize(
    "score",
    [
        ProsPr(batch_size=8, steps=3, rate=0.5),
        ProsPr(batch_size=8, steps=3, rate=0.5, momentum=0.9),
        ProsPr(batch_size=8, steps=2, batches=2, rate=0.5),
    ],
    ids=["plain", "momentum", "two batches"],
)
def test_prospr_is_the_slope_of_the_loss_after_the_steps(mask: Mask, score: ProsPr) -> None:
    at, full = snapshot(mask), torch.ones(20, dtype=torch.float64)
    found = flat(score(at, PROBE))
    for place in range(20):
        expected = abs(slope(lambda m: later_loss(at, score, m), full, place))
        assert float(found[place]) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_prospr_without_steps_is_saliency_on_its_last_batch() -> None:
    class Last(TinyProbe):
        def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
            return PROBE.batches(2, size)[1:]

    found = ProsPr(steps=0, batch_size=12)(snapshot(CUT), PROBE)
    expected = Saliency(batch_size=12)(snapshot(CUT), Last())
    torch.testing.assert_close(flat(found), flat(expected), rtol=1e-12, atol=0.0)


# -- step by step ----------------------------------------------------------------------------------


def test_force_scores_what_was_cut_by_what_it_would_do() -> None:
    at, full = snapshot(CUT), torch.ones(20, dtype=torch.float64)
    [batch] = PROBE.batches(1, 12)
    found, before, now = flat(Force(batch_size=12)(at, PROBE)), flat(at.start), flat(at.end)

    def loss(weights: Tensor) -> float:
        return float(PROBE.loss({**at.end, **parts(weights)}, batch))

    expected = [abs(float(before[j]) * slope(loss, now, j)) for j in range(len(full))]
    assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    gone = ~torch.cat([CUT[name].flatten() for name in NAMES])
    assert bool((found[gone] > 0).all())


@pytest.mark.parametrize("revives", [False, True])
@pytest.mark.parametrize(
    "score", [SynFlow(), Saliency(batch_size=12), Force(batch_size=12)], ids=str
)
def test_steps_are_the_loop_written_out(score: Score, revives: bool) -> None:
    at, kept = snapshot(CUT), torch.cat([CUT[name].flatten() for name in NAMES])
    pool = kept.clone()
    for count in (12, 9, 7, 5):  # 15 left, a quarter of the way to 5 at each of four steps
        mask = Mask(parts(kept))
        scores = flat(score(replace(at, mask=mask, end=mask.apply(at.end)), PROBE))
        among = pool if revives else kept
        order = sorted(range(20), key=lambda j: (not among[j], -float(scores[j]), j))
        kept = torch.zeros(20, dtype=torch.bool)
        kept[order[:count]] = True
    found = Stepwise(score=score, steps=4, revives=revives).cut(
        at, PROBE, Target(round=1, density=0.25)
    )
    assert torch.cat([found.mask.of(n, at.end[n].shape).flatten() for n in NAMES]).equal(kept)


def test_one_step_is_a_plain_cut_and_counts_by_tensor_are_kept() -> None:
    at, target = snapshot(CUT), Target(round=1, density=0.3)
    one, plain = (
        rule.cut(at, PROBE, target).mask
        for rule in (Stepwise(score=SynFlow(), steps=1), ByScore(score=SynFlow()))
    )
    assert one.digest == plain.digest
    shared = Stepwise(score=SynFlow(), steps=5, allocation=Uniform()).cut(at, PROBE, target).mask
    assert (shared.kept("first", 12), shared.kept("last", 8)) == (4, 2)
    none = Target(round=1, density=0.1, counts={"first": 2, "last": 0})
    counted = Stepwise(score=Magnitude(), steps=5).cut(at, PROBE, none).mask
    assert (counted.kept("first", 12), counted.kept("last", 8)) == (2, 0)


def test_equal_scores_in_series_leave_exact_counts_and_a_path() -> None:
    """All weights equal: layers tie within, and their totals are equal."""
    at = snapshot()
    even = at.end.replaced({name: torch.ones_like(at.end[name]) for name in NAMES})
    for count in range(2, 20):
        target = Target(round=1, density=count / 20)
        mask = Stepwise(score=SynFlow(), steps=20).cut(replace(at, end=even), PROBE, target).mask
        assert mask.kept("first", 12) + mask.kept("last", 8) == count
        assert float(PROBE.flow(mask.apply(even))) > 0


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GraSP(batches=0), r"GraSP\(batches=0.*at least one batch"),
        (lambda: GraSP(temperature=0.0), r"GraSP\(temperature=0.0\): want a positive"),
        (lambda: Force(batch_size=0), r"Force\(.*at least one batch"),
        (lambda: ProsPr(steps=-1), r"ProsPr\(steps=-1\): want a whole number, 0 or more"),
        (lambda: ProsPr(rate=0.0), r"ProsPr\(rate=0.0, .*want a positive rate"),
        (lambda: ProsPr(momentum=1.0), r"a momentum from 0 to less than 1"),
        (lambda: Stepwise(score=SynFlow(), steps=0), r"Stepwise\(steps=0\): want a whole number"),
        (lambda: Stepwise(score=SynFlow), r"SynFlow is a class"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


def test_what_scores_take_is_said_before_anything_is_trained() -> None:
    assert SynFlow().needs == frozenset()
    assert GraSP().needs == ProsPr().needs == Force().needs == {Need.BATCHES}
    setting = Setting(layers=LAYERS, targets=(), examples=1_023, steps=10, objective="CrossEntropy")
    for rule in (ByScore(score=ProsPr()), Stepwise(score=ProsPr())):
        assert "wants 1024 training examples, there are 1023" in str(rule.refuses(setting))
    assert Stepwise(score=SynFlow()).refuses(setting) is None


# -- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        (ByScore(score=Saliency(batch_size=12)), 1),
        (ByScore(score=GraSP(batch_size=12)), 1),
        (ByScore(score=GraSP(batches=2, batch_size=12)), 4),
        (ByScore(score=ProsPr(batch_size=12, steps=3)), 4),
        (Stepwise(score=Saliency(batch_size=12), steps=5), 5),
        (Stepwise(score=SynFlow(), steps=5), 5),
    ],
    ids=str,
)
def test_a_cut_runs_the_network_no_more_often_than_it_must(
    rule: ByScore | Stepwise, passes: int
) -> None:
    class Counting(TinyProbe):
        calls = 0

        def loss(self, params: Mapping[str, Tensor], batch: Any, **more: float) -> Tensor:
            self.calls += 1
            return super().loss(params, batch, **more)

        def flow(self, params: Mapping[str, Tensor]) -> Tensor:
            self.calls += 1
            return super().flow(params)

    probe = Counting()
    rule.cut(snapshot(), probe, Target(round=1, density=0.3))
    assert probe.calls == passes
