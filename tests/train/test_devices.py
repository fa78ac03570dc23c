"""Precision, layout and device of a training: on the processor all of it but the card itself."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tombola.world.device as device
from tombola.errors import CallError, WorldError
from tombola.lab.study import find
from tombola.recipes.imp import IMP
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.train.executors.replay import Replay
from tombola.train.leg import Leg
from tombola.train.loop import final_metrics, train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.rng import stream
from tombola.values.tensors import encode_tensors
from tombola.world.batch import Batch
from tombola.world.data.split import Split
from tombola.world.models import LeNet
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD
from tombola.world.prepare import FlipAndCrop, InTurn, Standardised
from tombola.world.world import World, initial_params

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
EXECUTORS = ("dense", "stacked")


class Pictures(nn.Module):
    """A small convolutional network that notes what its arithmetic is like."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.output = nn.Linear(8, 3)
        self.seen: set[tuple[str, torch.dtype, bool]] = set()

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.filters(images)
        self.seen.add(("hidden", hidden.dtype, innermost(hidden)))
        return self.output(self.norm(hidden).relu().mean(dim=(2, 3)))


def innermost(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last)


def pictures(**changes: Any) -> World:
    draw = stream(0, "pictures")
    images = torch.randint(256, (90, 2, 6, 6), generator=draw, dtype=torch.uint8)
    targets = (images.float().mean(dim=(1, 2, 3)) * 3 / 256).long().clamp(max=2)
    fields: dict[str, Any] = {
        "model": Pictures,
        "train": (images[:60], targets[:60]),
        "validation": (images[60:75], targets[60:75]),
        "test": (images[75:], targets[75:]),
        "steps": 12,
        "batch_size": 20,
        "evaluate_every": 4,
        "optimiser": SGD(lr=0.05, momentum=0.9),
        "numerics": Numerics(executor="dense"),
        "prepare": InTurn(
            (FlipAndCrop(padding=1), Standardised(mean=(0.5, 0.5), std=(0.25, 0.25)))
        ),
    }
    return World(**fields | changes)


def training(world: World, **changes: Any) -> Training:
    kept = {
        layer.name: torch.rand(layer.shape, generator=stream(5, layer.name)) < 0.5
        for layer in world.layers
    }
    fields: dict[str, Any] = {
        "world": world,
        "seed": 3,
        "params": initial_params(world, 3),
        "step": 0,
        "mask": Mask(kept),
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


def alike(one: Leg, other: Leg, tolerance: float) -> None:
    assert (one.exposure, one.checks) == (other.exposure, other.checks)
    assert one.mask.digest == other.mask.digest
    for name, tensor in one.coords.items():
        torch.testing.assert_close(tensor, other.coords[name], rtol=0, atol=tolerance)


# -- precision and layout ------------------------------------------------------------------------


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Pictures]]:
    """Every network that is made while a test runs."""
    made: list[Pictures] = []
    plain = Pictures.__init__

    def noted(self: Pictures) -> None:
        plain(self)
        made.append(self)

    monkeypatch.setattr(Pictures, "__init__", noted)
    yield made


def test_channels_lie_innermost_in_training_and_nowhere_else(networks: list[Pictures]) -> None:
    world = pictures(numerics=Numerics(executor="dense", channels_last=True))
    networks.clear()
    found = train(training(world))
    seen = {fact for network in networks for fact in network.seen}
    assert seen == {("hidden", torch.float32, True)}
    for params in (found.coords, found.slots, found.best):
        assert params is not None
        assert all(tensor.is_contiguous() for tensor in params.values())
        encode_tensors(params, {})  # which takes nothing else
    alike(found, train(training(pictures())), 1e-5)


@pytest.mark.parametrize("stop", [4, 7])
def test_another_layout_goes_on_to_the_same_bits(stop: int) -> None:
    world = pictures(numerics=Numerics(executor="dense", channels_last=True))
    whole, early = train(training(world)), train(training(world, until=stop))
    on = train(training(world), resume=early)
    assert (on.coords.digest, on.slots.digest) == (whole.coords.digest, whole.slots.digest)
    assert on.readings == whole.readings


def test_mixed_precision_keeps_weights_and_memory_whole(networks: list[Pictures]) -> None:
    world = pictures(numerics=Numerics(executor="dense", dtype="mixed-bfloat16"))
    networks.clear()
    found = train(training(world))
    seen = {fact[:2] for network in networks for fact in network.seen}
    assert seen == {("hidden", torch.bfloat16)}
    tensors = [t for held in (found.coords, found.slots) for t in held.values()]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}
    plain = train(training(pictures()))
    alike(found, plain, 0.05)
    assert found.coords.digest != plain.coords.digest
    metrics = final_metrics(training(world), found)
    assert metrics["test_loss"] == pytest.approx(
        final_metrics(training(pictures()), plain)["test_loss"], abs=0.05
    )


@pytest.mark.parametrize("mixed", [True, False])
def test_a_stack_is_of_its_precision(mixed: bool) -> None:
    numerics = Numerics(executor="stacked", dtype="mixed-bfloat16" if mixed else "float32")
    world = toy_world(model=lambda: LeNet(6, 16, 16, 16), numerics=numerics)
    found = train(training(world, until=20))
    dense = replace(world, numerics=replace(numerics, executor="dense"))
    assert found.executor == "stacked"
    alike(found, train(training(dense, until=20)), 0.05 if mixed else 1e-4)
    whole = replace(world, numerics=Numerics(executor="stacked"))
    same = train(training(whole, until=20)).coords.digest == found.coords.digest
    assert same is not mixed


def test_metrics_are_measured_in_whole_numbers() -> None:
    """Losses are summed of float32 outputs: in bfloat16 a sum of 90 losses has three digits."""
    world = toy_world(numerics=Numerics(dtype="mixed-bfloat16"))
    seen = []

    class Spy:
        name = "loss"

        def init(self) -> int:
            return 0

        def update(self, state: int, outputs: Tensor, batch: Batch) -> int:
            seen.append(outputs.dtype)
            return state

        def result(self, state: int) -> float:
            return 0.0

    spied = replace(world, objective=WithMetric(Spy()))
    evaluate(world.new_network(0), spied, world.validation)
    assert seen == [torch.float32]


class WithMetric:
    """Cross-entropy with one metric of a test's own."""

    given = frozenset[str]()

    def __init__(self, metric: Any) -> None:
        self.metrics = (metric,)
        self.digest = "one metric"

    def loss(self, call: Any, batch: Batch, given: Any) -> Tensor:
        return nn.functional.cross_entropy(call(batch.inputs), batch.targets)

    def penalty(self, params: Any) -> None:
        return None

    def check_targets(self, targets: Any, outputs: Any) -> None:
        return None


def test_draws_of_an_augmentation_are_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has shapes and no numbers: nothing that decides a draw may be on it."""
    images = torch.zeros(4, 2, 6, 6, dtype=torch.uint8, device="meta")
    generator = stream(1, "prepare")
    batch = pictures().prepare(Batch(images, None, None), generator)
    assert (batch.inputs.device.type, batch.inputs.shape) == ("meta", (4, 2, 6, 6))
    drawn = torch.rand(1, generator=generator)
    again = stream(1, "prepare")
    pictures().prepare(Batch(torch.zeros(4, 2, 6, 6), None, None), again)
    assert drawn.equal(torch.rand(1, generator=again))


def test_a_split_goes_to_a_device_once_and_as_bytes() -> None:
    split = pictures().train
    there = split.on(torch.device("meta"))
    assert split.on(torch.device("meta")) is there
    assert split.on(torch.device("cpu")) is split
    assert (there.inputs.dtype, there.inputs.device.type) == (torch.uint8, "meta")
    taken = there.take(torch.arange(3))
    assert (taken.inputs.device.type, taken.targets.shape) == ("meta", (3,))


# -- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps", "", "CPU", 0, None])
def test_what_is_no_device_is_named(name: Any) -> None:
    with pytest.raises(WorldError, match=r"Numerics\(device=.*\): want 'cpu', 'cuda'"):
        Numerics(device=name)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(WorldError, match=r"device='cuda'\): there is none; want one of 'cpu'"):
        toy_world(numerics=Numerics(device="cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(WorldError, match=r"want one of 'cpu', 'cuda:0', 'cuda:1'"):
        toy_world(numerics=Numerics(device="cuda:2"))
    toy_world(numerics=Numerics(device="cuda:1"))


def test_the_name_of_a_result_tells_kinds_of_device_apart_but_not_their_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "one model")

    def named(name: str) -> str:
        return toy_world(numerics=Numerics(device=name)).digest

    assert named("cuda") == named("cuda:0") == named("cuda:1") != named("cpu")
    first = named("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "another")
    assert named("cuda") != first


def test_a_card_is_not_shared_by_processes(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    world = toy_world(numerics=Numerics(device="cuda"))
    with pytest.raises(CallError, match=r"jobs=2 with Numerics\(device='cuda'\).*jobs=1"):
        find(IMP, world, seeds=1, jobs=2, store=tmp_path / "store")


def test_a_card_computes_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switches, which need no card; and they are put back."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # the user's own stays
    before = torch.backends.cudnn.allow_tf32
    with device.repeatable(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.allow_tf32 == before
    with device.repeatable(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()


class Recording:
    """Stands in for torch's graphs: what is recorded runs, and `replay` runs it once more."""

    def __init__(self) -> None:
        self.again: Callable[[], None] | None = None

    def replay(self) -> None:
        assert self.again is not None
        self.again()


def test_recording_a_step_leaves_no_trace_and_replays_it_on_other_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All but the recording itself, with torch's own part played by `Recording`."""
    stream_of = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda given: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream_of)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream_of)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)

    def made() -> tuple[Tensor, torch.optim.Optimizer, Callable[[Batch], None]]:
        weight = torch.ones(3, requires_grad=True)
        optimiser = torch.optim.SGD([weight], lr=0.1, momentum=0.9)

        def step(batch: Batch) -> None:
            (weight.grad,) = torch.autograd.grad((batch.inputs * weight).sum(), [weight])
            optimiser.step()

        return weight, optimiser, step

    def batch(value: float) -> Batch:
        return Batch(torch.full((3,), value), torch.zeros(1), torch.arange(1))

    weight, optimiser, step = made()
    replayed = Replay(step, batch(7.0), lambda: [weight, *optimiser.state[weight].values()])
    assert weight.equal(torch.ones(3))
    replayed._graph.again = lambda: step(replayed._batch)
    other, _, plain = made()
    for value in (1.0, -2.0, 0.5):
        replayed(batch(value))
        plain(batch(value))
        assert weight.equal(other)


@needs_card
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_card_trains_as_the_processor_does(executor: str) -> None:
    here = train(training(pictures(numerics=Numerics(executor="dense"))))
    numerics = Numerics(executor=executor, device="cuda")
    there = train(training(pictures(numerics=numerics)))
    assert there.executor == executor
    alike(there, here, 1e-3)
    assert all(t.device.type == "cpu" for t in (*there.coords.values(), *there.slots.values()))


@needs_card
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_card_trains_the_same_bits_twice_and_in_two_parts(executor: str) -> None:
    world = pictures(numerics=Numerics(executor=executor, device="cuda"))
    whole, again = train(training(world)), train(training(world))
    on = train(training(world), resume=train(training(world, until=7)))
    for leg in (again, on):
        assert (leg.coords.digest, leg.slots.digest) == (whole.coords.digest, whole.slots.digest)


@needs_card
def test_a_network_not_cut_trains_on_a_card_in_mixed_precision_and_layout() -> None:
    numerics = Numerics(device="cuda", dtype="mixed-bfloat16", channels_last=True)
    world = pictures(numerics=numerics)
    alike(train(training(world, mask=FULL)), train(training(pictures(), mask=FULL)), 0.05)
    assert isinstance(world.train.on(numerics.torch_device), Split)
