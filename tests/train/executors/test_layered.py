"""Training layer by layer on kept weights, against the plain executor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tombola.train.loop as loop
from tombola.kernels.best import best_kernel
from tombola.kernels.plain_conv import PlainConvolution
from tombola.testing import toy_world
from tombola.train.executors import chosen
from tombola.train.executors.dense import Dense
from tombola.train.executors.executor import Executor, Step
from tombola.train.executors.kept import KeptLayer, layers_of
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.rng import derive, stream
from tombola.world.batch import Batch
from tombola.world.models import VGG, ConvNet, LeNet, ResNet
from tombola.world.objective import Call, CrossEntropy
from tombola.world.optimiser import SGD, Adam, AdamW, Optimiser
from tombola.world.world import Numerics, World, initial_params

IMAGE = (3, 8, 8)


class Odd(nn.Module):
    """Strides, odd windows and padding, groups, dropout; a linear layer over rows; a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, (5, 2), stride=(1, 2), padding=(2, 1))
        self.second = nn.Conv2d(6, 6, 3, padding="same", bias=False)
        self.apart = nn.Conv2d(6, 6, 3, groups=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.rows = nn.Linear(5, 4)
        self.last = nn.Linear(6 * 8 * 4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs).relu()
        hidden = self.norm(self.second(hidden) + self.apart(hidden)).relu()
        hidden = self.drop(self.rows(hidden)).flatten(1)
        outputs: Tensor = self.last(hidden)
        return outputs


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet": lambda: LeNet(192, 12, 9, 3),
    "conv": lambda: ConvNet((4, 6), (8, 8), image=IMAGE, classes=3, dropout=0.5),
    "resnet": lambda: ResNet((4, 6, 8), 1, classes=3),
    "vgg": lambda: VGG(((4, 4), (6, 6)), classes=3),
    "odd": Odd,
}
MOMENTUM = SGD(lr=0.05, momentum=0.9, weight_decay=1e-2)
SPARSE = Numerics(executor="sparse")


def images_world(model: Callable[[], nn.Module], **changes: Any) -> World:
    inputs = torch.randn(300, *IMAGE, generator=stream(0, "images"))
    targets = inputs.mean(dim=(2, 3)).argmax(dim=1)
    parts = {"train": slice(180), "validation": slice(180, 240), "test": slice(240, 300)}
    fields: dict[str, Any] = {name: (inputs[part], targets[part]) for name, part in parts.items()}
    fields |= {"model": model, "thin": model, "optimiser": MOMENTUM, "numerics": SPARSE}
    return toy_world(**fields | changes)


def random_mask(world: World, density: float = 0.4) -> Mask:
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(5, layer.name)) < density
            for layer in world.layers
        }
    )


def training(world: World, **changes: Any) -> Training:
    mask = changes.pop("mask", None) or random_mask(world)
    fields: dict[str, Any] = {
        "world": world,
        "seed": 3,
        "params": initial_params(world, 3),
        "mask": mask,
        "step": 0,
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


def start(job: Training) -> Any:
    return job.parametrisation.coords(job.params, job.mask, job.seed)


def steps(world: World, count: int, begin: int = 0) -> list[Step]:
    order = world.order(3, 0).repeat(2).split(world.batch_size)
    return [
        Step(n, order[n], 1.0 - 0.1 * n, derive(3, "noise", n)) for n in range(begin, begin + count)
    ]


def pair(job: Training, resume: Any = None) -> tuple[Executor, Dense]:
    choice = chosen(job)
    assert choice.name == f"layered ({best_kernel().name})", choice
    return choice.build(job, start(job), resume), Dense(job, start(job), resume)


def assert_alike(ours: Executor, dense: Dense) -> None:
    """Within 1e-5 of the largest number of each tensor; names, order and zeros exactly."""
    one, other = ours.standing(), dense.standing()
    for mine, theirs in ((one.coords, other.coords), (one.slots, other.slots)):
        assert list(mine) == list(theirs)
        for name, tensor in theirs.items():
            assert mine[name].shape == tensor.shape and mine[name].dtype == tensor.dtype, name
            scale = float(tensor.abs().max()) if tensor.numel() else 0.0
            torch.testing.assert_close(mine[name], tensor, rtol=0, atol=1e-5 * scale, msg=name)
    for name, kept in ours.mask.items():
        for tensors in (one.coords, {k.split("/", 1)[1]: v for k, v in one.slots.items()}):
            if name in tensors and tensors[name].dim():
                cut = tensors[name][~kept]
                assert not cut.any() and not cut.signbit().any()


@pytest.mark.parametrize("optimiser", [MOMENTUM, Adam(lr=1e-3), AdamW(lr=1e-3)], ids=repr)
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "lenet"])
def test_a_step_is_that_of_dense(network: str, optimiser: Optimiser) -> None:
    job = training(images_world(NETWORKS[network], optimiser=optimiser))
    ours, dense = pair(job)
    assert ours.standing().coords.digest == dense.standing().coords.digest
    assert not ours.standing().slots
    for step in steps(job.world, 2):
        torch.manual_seed(0)
        ours.advance([step])
        dense.advance([step])
    assert_alike(ours, dense)
    measured, wanted = ours.measure(job.world.validation), dense.measure(job.world.validation)
    assert measured == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    "optimiser", [SGD(lr=0.1), replace(MOMENTUM, nesterov=True), AdamW(lr=1e-3, weight_decay=3.0)]
)
def test_other_ways_to_move_are_those_of_dense_too(optimiser: Optimiser) -> None:
    job = training(images_world(NETWORKS["conv"], optimiser=optimiser))
    ours, dense = pair(job)
    for executor in (ours, dense):
        executor.advance(steps(job.world, 3))
    assert_alike(ours, dense)


@pytest.mark.parametrize("optimiser", [MOMENTUM, Adam(lr=1e-3)], ids=repr)
def test_it_goes_on_from_slots_and_from_a_checkpoint(optimiser: Optimiser) -> None:
    job = training(images_world(NETWORKS["resnet"], optimiser=optimiser))
    ours, _ = pair(job)
    ours.advance(steps(job.world, 2))
    there = ours.standing()
    assert all(not there.slots[key].isnan().any() for key in there.slots)
    on = replace(job, params=there.coords, slots=there.slots, step=2)
    again, dense = pair(on)
    assert again.standing().slots.digest == there.slots.digest
    ours.advance(steps(job.world, 2, 2))
    again.advance(steps(job.world, 2, 2))
    dense.advance(steps(job.world, 2, 2))
    assert again.standing().coords.digest == ours.standing().coords.digest
    assert again.standing().slots.digest == ours.standing().slots.digest
    assert_alike(again, dense)


def test_a_training_interrupted_anywhere_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = training(images_world(NETWORKS["conv"], steps=20))
    kept: list[Any] = []
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole = train(job, keep=kept.append)
    again = train(job, resume=kept[7])
    assert again.coords.digest == whole.coords.digest and again.slots.digest == whole.slots.digest
    assert again.best is not None and again.best.digest == whole.best.digest
    assert whole.executor == f"layered ({best_kernel().name})" and whole.why_dense is None
    assert whole.checks["cut_stays_zero"] and whole.checks["rewind_exact"]


def test_layers_without_weights_or_inputs_are_no_special_case() -> None:
    world = images_world(NETWORKS["conv"])
    mask = random_mask(world)
    none, row, column = (mask[f"convs.{n}.weight"].clone() for n in (1, 2, 3))
    none[:], row[2], column[:, 1] = False, False, False
    holes = {f"convs.{n}.weight": kept for n, kept in ((1, none), (2, row), (3, column))}
    ours, dense = pair(training(world, mask=Mask({**dict(mask.items()), **holes})))
    for executor in (ours, dense):
        executor.advance(steps(world, 2))
    assert_alike(ours, dense)


@dataclass(frozen=True)
class Shrinking:
    """Cross-entropy; a penalty on whole rows; and one on the gradient of the loss by inputs."""

    given: frozenset[str] = frozenset()
    metrics = CrossEntropy().metrics

    def loss(self, call: Call, batch: Batch, given: Mapping[str, Call]) -> Tensor:
        inputs = batch.inputs.clone().requires_grad_(True)
        loss = CrossEntropy().loss(call, Batch(inputs, batch.targets, batch.index), given)
        (slope,) = torch.autograd.grad(loss, inputs, create_graph=True)
        return loss + 10.0 * slope.square().sum()

    def penalty(self, params: Mapping[str, Tensor]) -> Tensor | None:
        rows = [t.flatten(1).square().sum(dim=1) for t in params.values() if t.dim() > 1]
        return 1e-2 * (torch.cat(rows) + 1e-6).sqrt().sum()

    def check_targets(self, targets: Any, outputs: Any) -> str | None:
        return None


def test_an_objective_may_ask_for_whole_tensors_and_second_derivatives() -> None:
    job = training(images_world(NETWORKS["conv"], objective=Shrinking()))
    ours, dense = pair(job)
    for executor in (ours, dense):
        executor.advance(steps(job.world, 2))
    assert_alike(ours, dense)


# -- what is chosen ------------------------------------------------------------------------------


def test_a_chain_is_left_to_the_kernel_for_chains_unless_its_objective_is_another() -> None:
    world = images_world(NETWORKS["lenet"])
    assert chosen(training(world)).name.startswith("sparse")
    other = replace(world, objective=Shrinking())
    assert chosen(training(other)).name.startswith("layered")


def test_auto_takes_layers_where_it_pays_and_names_one_where_none_does() -> None:
    model = lambda: ConvNet((64,), (256, 256), image=IMAGE, classes=3)  # noqa: E731
    world = images_world(model, numerics=Numerics(kernel="torch"))
    choice = chosen(training(world))
    assert choice.name == "dense" and choice.why_dense is not None
    assert ".weight: at a" in choice.why_dense and "dense is faster" in choice.why_dense
    if best_kernel().name != "c":
        pytest.skip("no kernel that pays here")
    world = replace(world, numerics=Numerics(kernel="c"))
    assert chosen(training(world, mask=random_mask(world, 0.5))).name == "dense"
    choice = chosen(training(world, mask=random_mask(world, 0.1)))
    assert choice.name == "layered (c)"
    assert choice.build.keywords["layers"] == (  # not the first: three channels never pay
        "convs.1.weight",
        "linears.0.weight",
        "linears.1.weight",
    )
    many = replace(world, numerics=Numerics(kernel="c", threads=2))
    assert "one thread" in str(chosen(training(many, mask=random_mask(world, 0.1))).why_dense)


@dataclass(frozen=True, kw_only=True)
class Trusting:
    """Layer-wise adaptive rates: what a weight does depends on all of its tensor."""

    lr: float = 0.1
    rate: Any = SGD(lr=1.0).rate

    def build(self, tensors: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(tensors, lr=self.lr)


def test_what_cannot_be_vouched_for_is_left_to_dense_with_a_reason() -> None:
    world = images_world(NETWORKS["odd"])

    def why(job: Training) -> str:
        choice = chosen(job)
        assert choice.name == "dense" and choice.why_dense is not None
        return choice.why_dense

    assert "optimiser Trusting is not" in why(training(replace(world, optimiser=Trusting())))
    assert "no layer is cut" in why(training(world, mask=FULL))
    groups = Mask({"apart.weight": random_mask(world)["apart.weight"]})
    assert "apart.weight stays dense: it has 2 groups" in why(training(world, mask=groups))
    double = replace(world, numerics=Numerics(executor="sparse", dtype="float64"))
    assert "float64" in why(training(double))


class Reaching(nn.Module):
    """Uses the weight of a layer beside the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.conv(inputs).mean(dim=(2, 3))
        return self.last(hidden) + self.last.weight.sum(dim=1)


def test_a_network_that_reaches_for_a_weight_is_left_to_dense() -> None:
    assert "computes something else" in str(chosen(training(images_world(Reaching))).why_dense)


def test_layers_that_share_or_are_watched_are_left_alone() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Conv2d(1, 1, 2))
    network[1].weight = network[0].weight
    network[2].register_forward_hook(lambda *_: None)
    network[3].padding_mode = "circular"
    found = {name: reason for name, _, reason in layers_of(network)}
    assert found == {
        "0.weight": "its weight is shared",
        "1.weight": "its weight is shared",
        "2.weight": "it has hooks",
        "3.weight": "its padding is 'circular', not zeros",
    }


def test_one_image_alone_goes_through() -> None:
    conv = nn.Conv2d(2, 3, 3)
    layer = KeptLayer(conv, torch.ones_like(conv.weight, dtype=torch.bool), PlainConvolution())
    image = torch.randn(2, 5, 5)
    torch.testing.assert_close(layer(image), conv(image))
