"""Worlds: identity, and everything that is refused at the door."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tombola.errors import RecipeError, WorldError
from tombola.testing import toy_net, toy_world
from tombola.values.params import Params, params_of
from tombola.world.batch import Batch
from tombola.world.catalogue import WORLDS, digits, mnist_lenet
from tombola.world.data.split import Split
from tombola.world.distillation import Distillation
from tombola.world.models import LeNet
from tombola.world.objective import Accuracy, CrossEntropy, Metric
from tombola.world.optimiser import SGD, Adam, Constant, Cosine
from tombola.world.prepare import AsIs, Scaled
from tombola.world.probe import NetworkProbe
from tombola.world.world import Numerics, World, fill, initial_params

BASE = toy_world()
X, Y = BASE.train.inputs, BASE.train.targets


def other_net() -> nn.Module:
    return LeNet(6, 12, 8, 3)  # the same tensors, from another factory


@dataclass(frozen=True)
class OwnObjective(CrossEntropy):
    pass


def changed(split: Split) -> tuple[Tensor, Tensor]:
    inputs = split.inputs.clone()
    inputs[-1, -1] = torch.nextafter(inputs[-1, -1], torch.tensor(math.inf))
    return inputs, split.targets


# -- identity ------------------------------------------------------------------------------------

CHANGES: dict[str, list[Any]] = {
    "model": [other_net, lambda: LeNet(6, 12, 9, 3), lambda: LeNet(6, 12, 8, 4)],
    "train": [changed(BASE.train), (X, Y.flip(0)), (X.flip(0), Y.flip(0)), (X[:-1], Y[:-1])],
    "validation": [changed(BASE.validation), None],
    "test": [changed(BASE.test)],
    "steps": [61],
    "batch_size": [21],
    "optimiser": [Adam(lr=2e-2), SGD(lr=1e-2), Adam(lr=1e-2, rate=Cosine())],
    "objective": [OwnObjective()],
    "prepare": [Scaled(), Scaled(scale=2.0)],
    "evaluate_every": [6],
    "numerics": [
        Numerics(threads=2),
        Numerics(dtype="float64"),
        Numerics(executor="dense"),
        Numerics(executor="sparse"),
        Numerics(kernel="torch"),
        Numerics(dtype="mixed-bfloat16"),
        Numerics(channels_last=True),
        Numerics(executor="stacked"),
    ],  # and a device, which not every machine has: tests/train/test_devices.py
}
# What no trained weight and no measured number depends on: rates are in the targets and layers of
# the jobs that cut, judged density and margin in the study.
UNCHANGED: dict[str, list[Any]] = {
    "name": ["other"],
    "judged_density": [0.2],
    "margin": [0.1],
    "rates": [{"linear": 0.5}, 0.5],
    "unpruned": [("layers.1.*",)],
    "pruned": [("layers.*.bias",)],
    "thin": [lambda factor: toy_net()],
}


def test_what_a_result_depends_on_is_in_the_digest_and_nothing_else() -> None:
    assert {field.name for field in fields(World)} == {*CHANGES, *UNCHANGED}
    others = [
        toy_world(**{name: value}).digest for name, values in CHANGES.items() for value in values
    ]
    assert len({BASE.digest, *others}) == len(others) + 1
    for name, values in UNCHANGED.items():
        for value in values:
            assert toy_world(**{name: value}).digest == BASE.digest
    assert toy_world().digest == BASE.digest == replace(BASE).digest


def test_how_data_is_given_does_not_count() -> None:
    assert toy_world(train=TensorDataset(X, Y)).digest == BASE.digest
    assert toy_world(train=[X.clone(), Y.clone()], test=BASE.test).digest == BASE.digest
    assert toy_world(optimiser=Adam(lr=1e-2, rate=Constant())).digest == BASE.digest


def own_world(forward: str, name: str = "Own", start: str = "") -> World:
    """A network of the user's, written in a notebook, from a lambda."""
    names: dict[str, Any] = {"__name__": "notebook", "nn": nn}
    exec(
        "class Part(nn.Module):\n"
        f"  def forward(self, x): return {forward}\n"
        f"class {name}(nn.Module):\n"
        "  def __init__(self):\n"
        f"    super().__init__(); self.body = nn.Linear(6, 3); self.part = Part(); {start}\n"
        "  def forward(self, x): return self.part(self.body(x))\n",
        names,
    )
    made = names[name]
    return toy_world(model=lambda: made())


def test_a_users_network_counts_by_its_code_too() -> None:
    one = own_world("x * 2")
    assert one.digest == own_world("x * 2").digest
    others = [
        own_world("x * 3"),
        own_world("x * 2", name="Other"),
        own_world("x * 2", start="nn.init.ones_(self.body.weight)"),
    ]
    assert len({one.digest, *(world.digest for world in others)}) == 4
    assert [layer.name for layer in one.layers] == ["body.weight"]


def test_a_width_held_by_a_lambda_counts() -> None:
    def world(width: int, held: object = None) -> World:
        return toy_world(model=lambda: (held, LeNet(6, width, 3))[1])

    assert world(5).digest == world(5).digest
    assert len({world(5).digest, world(6).digest, world(5, "note").digest}) == 3
    with pytest.raises(WorldError, match=r"model: cannot tell the identity of a object"):
        _ = world(5, object()).digest


# -- networks ------------------------------------------------------------------------------------


def test_each_seed_has_its_own_network_and_always_the_same() -> None:
    starts = {
        initial_params(BASE, seed, *names).digest
        for seed in range(3)
        for names in ((), ("draw", 1), ("draw", 2))
    }
    assert len(starts) == 9
    assert initial_params(BASE, 2).digest == initial_params(toy_world(steps=99), 2).digest
    assert params_of(BASE.new_network(2)).digest == initial_params(BASE, 2).digest


def test_a_network_holds_copies() -> None:
    params = initial_params(BASE, 1)
    before = params.rehash()
    network = BASE.network(params)
    assert params_of(network).digest == before
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.zero_()
    assert params.rehash() == before
    with pytest.raises(KeyError, match=r"layers\.2\.bias"):
        fill(network, Params({name: t for name, t in params.items() if name != "layers.2.bias"}))
    BASE.network(params.replaced({"more": torch.zeros(1)}))


def test_lenet_is_glorot_normal_with_zero_biases() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LeNet(784, 300, 100, 10)
    for layer in network.layers:
        fan_out, fan_in = layer.weight.shape
        deviation = math.sqrt(2 / (fan_in + fan_out))
        weight = layer.weight.detach()
        assert float(weight.std()) == pytest.approx(deviation, rel=0.05)
        assert abs(float(weight.mean())) < 0.1 * deviation
        assert not layer.bias.any()
    inputs = torch.randn(5, 28, 28)
    hidden = inputs.reshape(5, 784)
    for layer in network.layers[:2]:
        hidden = (hidden @ layer.weight.T + layer.bias).clamp(min=0)
    wanted = hidden @ network.layers[2].weight.T
    torch.testing.assert_close(network(inputs), wanted)


def test_order_is_a_permutation_for_each_pass_and_seed() -> None:
    orders = {tuple(BASE.order(seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert all(sorted(order) == list(range(180)) for order in orders)
    assert BASE.order(1, 2).equal(toy_world(model=other_net).order(1, 2))
    assert BASE.steps_per_epoch == 9


def test_batches_are_taken_prepared_and_converted() -> None:
    @dataclass(frozen=True)
    class Doubles(AsIs):
        def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
            return Batch({"x": batch.inputs * 2, "n": batch.index}, batch.targets, batch.index)

    class Named(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 3)

        def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
            assert inputs["n"].dtype is torch.int64
            return super().forward(inputs["x"])

    world = toy_world(model=Named, prepare=Doubles(), numerics=Numerics(dtype="float64"))
    batch = world.batch(world.test, torch.tensor([3, 1]))
    assert batch.inputs["x"].equal(2 * world.test.inputs[[3, 1]].double())
    assert batch.targets.equal(world.test.targets[[3, 1]])
    assert all(t.dtype is torch.float64 for t in initial_params(world, 0).values())


# -- defaults ------------------------------------------------------------------------------------


def test_a_tenth_is_held_out_the_same_for_all() -> None:
    world = toy_world(train=(torch.arange(1080.0).reshape(180, 6), Y), validation=None)
    sizes = {name: len(getattr(world, name)) for name in ("train", "validation", "test")}
    assert sizes == {"train": 162, "validation": 18, "test": 60}
    first = torch.cat([world.train.inputs, world.validation.inputs])[:, 0]
    assert sorted(first.tolist()) == [6.0 * n for n in range(180)]
    assert first.tolist() != sorted(first.tolist())
    again = toy_world(train=(torch.arange(1080.0).reshape(180, 6), Y), validation=None, steps=7)
    assert again.validation.digest == world.validation.digest


@pytest.mark.parametrize(("steps", "every"), [(2_000, 20), (250, 2), (99, 1), (1, 1)])
def test_evaluation_is_every_hundredth_of_the_way(steps: int, every: int) -> None:
    assert toy_world(steps=steps, evaluate_every=None).evaluate_every == every


def test_rates_left_out_are_those_of_2019() -> None:
    assert BASE.rate_of == {"linear": 0.8, "conv": 0.8, "attention": 0.8, "output": 0.9}
    world = toy_world(rates={"linear": 0.5})
    assert [(layer.kind, layer.rate) for layer in world.layers] == [
        ("linear", 0.5),
        ("linear", 0.5),
        ("output", 0.9),
    ]
    assert [layer.count for layer in world.layers] == [72, 96, 24]


# -- what is refused -----------------------------------------------------------------------------


class Counts(nn.Linear):
    """Keeps a number out of its state_dict: one that training changes, or one that never does."""

    def __init__(self, moves: bool) -> None:
        super().__init__(6, 3)
        self.moves = moves
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and self.moves:
            self.seen += len(inputs)
        return super().forward(inputs) + 0 * self.seen


class Blind(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :3]


def frozen() -> nn.Module:
    return nn.Linear(6, 3).requires_grad_(False)


SHARED = nn.Linear(6, 3)


def from_numpy() -> nn.Module:
    network = nn.Linear(6, 3)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(np.random.default_rng().normal(size=(3, 6))))
    return network


def shaky() -> nn.Module:
    return LeNet(6, random.SystemRandom().randint(4, 99), 3)


@dataclass(frozen=True)
class NoLoss(CrossEntropy):
    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Accuracy(),)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": toy_net()}, r"model is a LeNet; want the class or a function .*lambda: MyNet\(10\)"),
    ({"model": "LeNet"}, r"model is a str; want the class or a function"),
    ({"model": lambda: None}, r"model\(\) returned a NoneType; want a torch.nn.Module"),
    ({"model": Blind}, r"Blind has no parameters; there is nothing to train"),
    ({"model": frozen}, r"Linear has no trainable linear, .* nothing to prune"),
    ({"model": lambda: Counts(moves=True)}, r"Counts changes \['seen'\] .*persistent=True"),
    ({"model": lambda: SHARED}, r"model\(\) gives the same tensors each time"),
    ({"model": lambda: nn.Sequential(SHARED, nn.Linear(3, 3))}, r"the same tensors each time"),
    ({"model": from_numpy}, r"gives other initial values for the same seed"),
    ({"model": shaky}, r"gives other initial values for the same seed"),
    (
        {"model": lambda: nn.Sequential(nn.Linear(6, 3), nn.Unflatten(1, (3, 1)))},
        r"output is torch.float32 \(2, 3, 1\); want a tensor \(examples, classes\)",
    ),
    ({"train": (X[:0], Y[:0])}, r"train: no examples"),
    ({"validation": (X[:0], Y[:0])}, r"validation: no examples; want at least one"),
    ({"test": (X[:0], Y[:0])}, r"test: no examples"),
    (
        {"train": (X[:4], Y[:4]), "validation": None, "batch_size": 2},
        r"validation: a tenth of 4 training examples is an empty split",
    ),
    ({"train": (X.masked_fill(X > 2, math.nan), Y)}, r"train: the inputs have NaN or"),
    ({"test": (BASE.test.inputs * math.nan, BASE.test.targets)}, r"test: the inputs have NaN"),
    ({"train": (X, Y[:-1])}, r"train: lengths differ"),
    ({"train": (X, Y + 1)}, r"train: labels go from 1 to 3; .* 3 outputs, so want 0 to 2"),
    ({"validation": (X, Y - 1)}, r"validation: labels go from -1 to 1"),
    ({"test": (X, Y * 9)}, r"test: labels go from 0 to 18"),
    ({"train": (X, Y.int())}, r"train: targets are torch.int32 .*want int64 class numbers"),
    ({"train": (X, Y.float())}, r"train: targets are torch.float32"),
    ({"train": (X, Y[:, None])}, r"train: targets are torch.int64 \(180, 1\)"),
    ({"test": (X[:, :5], Y)}, r"test: the network takes the examples of `train`, but not these"),
    ({"validation": (X.long(), Y)}, r"validation: the network takes the examples of `train`"),
    ({"batch_size": 181}, r"batch_size=181 with 180 training examples: want 1 to 180"),
    ({"batch_size": 0}, r"World\(batch_size=0\): want a whole number, 1 or more"),
    ({"steps": 0}, r"World\(steps=0\): want a whole number"),
    ({"steps": 10.0}, r"World\(steps=10.0\): want a whole number"),
    ({"steps": "10"}, r"World\(steps='10'\): want a whole number"),
    ({"steps": None}, r"World\(steps=None\): want a whole number"),
    ({"evaluate_every": 0}, r"World\(evaluate_every=0\): want a whole number"),
    ({"evaluate_every": 2.5}, r"World\(evaluate_every=2.5\): want a whole number"),
    ({"judged_density": 0.0}, r"judged_density=0.0; want a fraction kept, over 0, at most 1"),
    ({"judged_density": 10}, r"judged_density=10; want a fraction kept"),
    ({"rates": {"linear": 0.0}}, r"linear=0.0; want a fraction kept"),
    ({"rates": {"linaer": 0.5}}, r"\{'linaer': 0.5\}\): kinds are linear, conv, attention, output"),
    ({"steps": True}, r"World\(steps=True\): want a whole number"),
    ({"margin": -0.1}, r"margin=-0.1\): want a number, 0 or more"),
    ({"margin": math.nan}, r"margin=nan\): want a number"),
    ({"objective": NoLoss()}, r"NoLoss\): its metrics are \['accuracy'\]; .* named 'loss'"),
    ({"objective": Distillation()}, r"Distillation\): it needs \['teacher'\] beside a batch"),
]


@pytest.mark.parametrize(
    ("changes", "message"), WRONG, ids=lambda value: value[:50] if isinstance(value, str) else ""
)
def test_what_cannot_be_trained_on_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        toy_world(**changes)


def test_a_buffer_that_never_changes_need_not_be_stored() -> None:
    world = toy_world(model=lambda: Counts(moves=False))
    assert set(initial_params(world, 0)) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("numerics", "message"),
    [
        ({"executor": "quick"}, r"executor='quick'\): want one of 'auto', 'dense', 'sparse'"),
        ({"kernel": "cuda"}, r"kernel='cuda'\): want one of 'c'"),
        ({"dtype": "int8"}, r"dtype='int8'\): want one of 'float32'"),
        ({"threads": 0}, r"threads=0\): want"),
    ],
)
def test_numerics_there_are_not_are_refused(numerics: dict[str, Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        Numerics(**numerics)


def test_an_error_of_the_users_network_is_the_users() -> None:
    class Broken(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        toy_world(model=Broken)


# -- the probe -----------------------------------------------------------------------------------


def test_the_probe_hands_out_distinct_training_examples() -> None:
    probe = NetworkProbe(BASE, 3)
    batches = probe.batches(9, 20)
    places = [int(place) for batch in batches for place in batch.index]
    assert sorted(places) == list(range(180))
    assert all(batch.inputs.equal(X[batch.index]) for batch in batches)
    assert [b.index.tolist() for b in NetworkProbe(BASE, 3).batches(9, 20)] == [
        b.index.tolist() for b in batches
    ]
    assert NetworkProbe(BASE, 4).batches(1, 20)[0].index.tolist() != batches[0].index.tolist()
    with pytest.raises(RecipeError, match=r"10 x 20 distinct training examples, there are 180"):
        probe.batches(10, 20)


def test_the_probe_computes_in_inference_mode_with_the_tensors_it_is_given() -> None:
    class Dropped(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    world = toy_world(model=Dropped)
    probe, params = NetworkProbe(world, 0), initial_params(world, 5)
    batch = probe.batches(1, 30)[0]
    weight = params["0.weight"].clone().requires_grad_()
    loss = probe.loss({**params, "0.weight": weight}, batch)
    network = world.network(params).eval()
    assert probe.outputs(params, batch).equal(network(batch.inputs))
    assert loss.equal(nn.functional.cross_entropy(network(batch.inputs), batch.targets))
    assert torch.autograd.grad(loss, weight)[0].any()
    assert params["1.num_batches_tracked"] == 0
    draws = [torch.rand(2, generator=NetworkProbe(world, n).stream("x")).tolist() for n in (0, 1)]
    assert draws[0] != draws[1]


# -- the catalogue -------------------------------------------------------------------------------


def test_digits_are_as_the_design_says() -> None:
    world = digits()
    assert [(layer.count, layer.rate) for layer in world.layers] == [
        (19_200, 0.8),
        (30_000, 0.8),
        (1_000, 0.9),
    ]
    assert (world.steps, world.batch_size, world.evaluate_every) == (2_000, 60, 10)
    assert (world.judged_density, world.margin, world.optimiser) == (0.1122, 0.01, Adam(lr=1.2e-3))


@pytest.mark.parametrize("name", [name for name in WORLDS if name.startswith("digits")])
def test_worlds_are_named_as_they_are_listed(name: str) -> None:
    world = WORLDS[name]()
    assert world.name == name
    assert world.judged_density < 1


def test_mnist_is_as_the_paper_says(mnist_data: Path) -> None:
    world = mnist_lenet(mnist_data)
    assert [layer.count for layer in world.layers] == [235_200, 30_000, 1_000]
    inputs = world.batch(world.train, torch.arange(100)).inputs
    assert (inputs.dtype, float(inputs.min()), float(inputs.max())) == (torch.float32, 0.0, 1.0)
