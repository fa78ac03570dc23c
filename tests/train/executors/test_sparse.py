"""The sparse executor against the plain one, and what it must keep of a training."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tombola.train.executors.choose as choose
from tombola.pieces.dynamics import DeepR
from tombola.pieces.parametrisation import EdgePopup, Frozen
from tombola.testing import toy_net, toy_world
from tombola.train.executors import chosen
from tombola.train.executors.choose import _sparse
from tombola.train.executors.executor import NotServedError
from tombola.train.executors.sparse import Layout, Sparse
from tombola.train.leg import Leg
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.digest import digest
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.batch import Batch
from tombola.world.data.split import Split
from tombola.world.models import LeNet
from tombola.world.numerics import Numerics
from tombola.world.objective import CrossEntropy
from tombola.world.optimiser import SGD, Adam, AdamW, Cosine, Optimiser
from tombola.world.prepare import FlipAndCrop, InTurn, Prepare, Scaled, Standardised
from tombola.world.world import World, initial_params

DENSE, SPARSE = Numerics(executor="dense"), Numerics(executor="sparse")
# Largest difference of a weight after a step, over the largest weight: sums in another order.
TOLERANCE = 1e-5
OPTIMISERS: dict[str, Optimiser] = {
    "sgd": SGD(lr=0.1),
    "momentum": SGD(lr=0.1, momentum=0.9, weight_decay=0.01, rate=Cosine()),
    "nesterov": SGD(lr=0.05, momentum=0.9, nesterov=True),
    "adam": Adam(lr=0.01, eps=1e-4),
    "adamw": AdamW(lr=0.01, weight_decay=0.1, eps=1e-4),
}
PREPARED: dict[str, Prepare] = {
    "scaled": Scaled(),
    "standardised": Standardised(mean=(0.4, 0.5), std=(0.2, 0.3)),
    "augmented": InTurn((FlipAndCrop(padding=1), Standardised(mean=(0.4, 0.5), std=(0.2, 0.3)))),
}


def thinned(world: World, density: float = 0.3) -> Mask:
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(9, layer.name)) < density
            for layer in world.layers
        }
    )


def training(world: World, mask: Mask | None = None, **changes: Any) -> Training:
    fields: dict[str, Any] = {
        "world": world,
        "seed": 3,
        "params": initial_params(world, 3),
        "mask": thinned(world) if mask is None else mask,
        "step": 0,
        "until": world.steps,
        "objective": world.objective,
    }
    return Training(**fields | changes)


def images(prepare: Prepare, **changes: Any) -> World:
    """Two-channel images of 4 x 4 bytes, classes by brightness."""
    pixels = torch.randint(256, (300, 2, 4, 4), generator=stream(0, "pixels"), dtype=torch.uint8)
    targets = pixels[:, 0].float().mean(dim=(1, 2)).div(60).long().clamp(0, 2)
    parts = {"train": slice(180), "validation": slice(180, 240), "test": slice(240, 300)}
    return toy_world(
        model=lambda: LeNet(32, 12, 3),
        thin=None,
        prepare=prepare,
        **{name: (pixels[part], targets[part]) for name, part in parts.items()},
        **changes,
    )


def apart(one: Params, other: Params) -> float:
    """The largest difference, over the largest number of the tensor it is in."""
    assert set(one) == set(other)
    return max(
        (float((one[n] - other[n]).abs().max() / one[n].abs().max().clamp_min(1e-3)) for n in one),
        default=0.0,
    )


def both(job: Training, steps: int) -> tuple[Leg, Leg]:
    """The same steps by the plain and by the sparse executor, read after each."""
    legs = []
    for numerics in (DENSE, SPARSE):
        world = replace(job.world, numerics=numerics, evaluate_every=1)
        legs.append(train(replace(job, world=world, until=job.step + steps)))
    assert [leg.executor.split()[0] for leg in legs] == ["dense", "sparse"]
    return legs[0], legs[1]


# -- equal to the plain one ----------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("density", [1.0, 0.3, 0.02])
def test_a_step_is_that_of_the_plain_executor(optimiser: str, density: float) -> None:
    world = toy_world(optimiser=OPTIMISERS[optimiser])
    mask = thinned(world, density) if density < 1.0 else FULL
    dense, sparse = both(training(world, mask), 1)
    assert apart(dense.coords, sparse.coords) < TOLERANCE
    assert apart(dense.slots, sparse.slots) < TOLERANCE
    assert [r.metrics["accuracy"] for r in dense.readings] == [
        r.metrics["accuracy"] for r in sparse.readings
    ]
    assert dense.readings[0].metrics["loss"] == pytest.approx(
        sparse.readings[0].metrics["loss"], rel=1e-5
    )


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_few_steps_drift_little(optimiser: str) -> None:
    dense, sparse = both(training(toy_world(optimiser=OPTIMISERS[optimiser])), 20)
    assert apart(dense.coords, sparse.coords) < 100 * TOLERANCE
    assert (dense.exposure, dense.checks) == (sparse.exposure, sparse.checks)


@pytest.mark.parametrize("prepare", PREPARED)
def test_images_are_prepared_alike(prepare: str) -> None:
    dense, sparse = both(training(images(PREPARED[prepare])), 5)
    assert apart(dense.coords, sparse.coords) < 10 * TOLERANCE
    for one, other in zip(dense.readings, sparse.readings, strict=True):
        assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-4)


def test_units_without_inputs_or_outputs_are_as_in_the_plain_executor() -> None:
    world = toy_world(optimiser=OPTIMISERS["momentum"])
    shapes = {layer.name: layer.shape for layer in world.layers}
    kept = {
        name: torch.rand(shape, generator=stream(1, name)) < 0.5 for name, shape in shapes.items()
    }
    first, second, _ = sorted(kept)
    kept[first][:3] = False  # constant units
    kept[second][:, 2:6] = False  # units that nobody hears, one of them constant
    kept[first][:, 0] = False  # an input that nobody reads
    dense, sparse = both(training(world, Mask(kept)), 5)
    assert apart(dense.coords, sparse.coords) < 10 * TOLERANCE
    assert apart(dense.slots, sparse.slots) < 10 * TOLERANCE


def test_it_goes_on_from_a_state_that_the_plain_one_left() -> None:
    world = toy_world(optimiser=OPTIMISERS["adam"])
    job = training(replace(world, numerics=DENSE))
    early = train(replace(job, until=10))
    begun = training(world, params=early.coords, slots=early.slots, step=10)
    dense, sparse = both(begun, 1)
    assert apart(dense.coords, sparse.coords) < TOLERANCE
    assert apart(dense.slots, sparse.slots) < TOLERANCE
    assert int(sparse.slots["step/layers.0.weight"]) == 11


# -- what a training must be ---------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_steps_one_by_one_or_many_at_once_give_equal_bits(
    optimiser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = training(toy_world(optimiser=OPTIMISERS[optimiser], numerics=SPARSE, evaluate_every=15))
    many = train(job)
    monkeypatch.setattr(Sparse, "most", 1)
    assert digest(train(job)) == digest(many)


def test_a_state_of_another_executor_is_not_gone_on_from() -> None:
    job = training(toy_world(numerics=SPARSE))
    other = replace(train(replace(job, until=20)), executor="dense")
    assert digest(train(job, resume=other)) == digest(train(job))


def test_cut_weights_are_positive_zero_and_the_optimiser_knows_none_of_them() -> None:
    world = toy_world(optimiser=OPTIMISERS["adamw"], numerics=SPARSE)
    leg = train(training(world))
    for name, kept in leg.mask.items():
        for tensor in (leg.coords[name], leg.slots[f"exp_avg/{name}"]):
            assert not tensor[~kept].any() and not tensor[~kept].signbit().any()
    assert leg.checks["cut_stays_zero"] is True


def test_a_training_that_diverges_says_so() -> None:
    world = toy_world(optimiser=SGD(lr=1e20), numerics=SPARSE)
    assert train(training(world)).diverged_at == 5


def test_a_start_that_is_not_held_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from tombola.errors import CheckError

    def sloppy(self: Layout, values: np.ndarray) -> dict[str, Tensor]:
        return {name: tensor + 1e-7 for name, tensor in tensors(self, values).items()}

    tensors = Layout.tensors
    monkeypatch.setattr(Layout, "tensors", sloppy)
    with pytest.raises(CheckError, match="rewind_exact"):
        train(training(toy_world(numerics=SPARSE)))


# -- which executor ------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnLoss(CrossEntropy):
    """An objective of the user's."""


@dataclass(frozen=True, kw_only=True)
class OwnAdam(Adam):
    """An optimiser of the user's."""


class WithDropout(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def not_served() -> dict[str, tuple[Training, str]]:
    world = toy_world(numerics=SPARSE)
    own = {"layers.0.bias": torch.tensor([True] + [False] * 11)}
    double = replace(SPARSE, dtype="float64")
    return {
        "parametrisation": (training(world, parametrisation=Frozen()), "Frozen is not Identity"),
        "supermask": (training(world, parametrisation=EdgePopup()), "EdgePopup is not"),
        "dynamics": (training(world, dynamics=DeepR()), "dynamics DeepR is not Static or SET"),
        "objective": (training(world, objective=OwnLoss()), "OwnLoss is not CrossEntropy"),
        "optimiser": (
            training(toy_world(numerics=SPARSE, optimiser=OwnAdam(lr=0.1))),
            "OwnAdam is not Adam or AdamW or SGD",
        ),
        "bias": (training(world, Mask(own)), "the mask cuts layers.0.bias"),
        "dtype": (training(toy_world(numerics=double)), "float64 is not float32"),
        "model": (training(toy_world(numerics=SPARSE, model=WithDropout)), "1 is Dropout"),
    }


@pytest.mark.parametrize("case", not_served())
def test_what_it_does_not_serve_is_left_to_the_plain_one_and_said(case: str) -> None:
    job, reason = not_served()[case]
    choice = chosen(job)
    if choice.name == "dense":
        assert choice.why_dense is not None and reason in choice.why_dense
    else:  # another executor takes what this one does not
        assert choice.name.startswith("layered") and case in ("objective", "model")
    with pytest.raises(NotServedError, match=reason):
        _sparse(job)


def test_a_kernel_there_is_not_leaves_it_to_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for look in ("kernel_named", "convolution_named"):
        monkeypatch.setattr(choose, look, lambda name: None)
    leg = train(training(toy_world(numerics=SPARSE, steps=5)))
    assert leg.executor == "dense"
    assert leg.why_dense == f"this machine has no kernel {SPARSE.kernel!r}"


def test_auto_takes_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "break_even", lambda kernel, weights: 0.4)
    world = toy_world()
    assert world.numerics.executor == "auto"
    below, above = (chosen(training(world, thinned(world, d))) for d in (0.3, 0.6))
    assert below.name == f"sparse ({world.numerics.kernel})" and below.why_dense is None
    assert (
        above.name == "dense"
        and str(above.why_dense) == "a density above 0.4, where dense is faster"
    )
    assert chosen(training(toy_world(numerics=DENSE))).why_dense is None


def test_auto_knows_the_density_of_the_weights_it_can_cut_from_those_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(choose, "break_even", lambda kernel, weights: asked.append(weights) or 1.0)
    chosen(training(toy_world()))
    assert asked == [sum(p.numel() for n, p in toy_net().named_parameters() if "weight" in n)]


def test_the_kernel_of_torch_trains_too() -> None:
    world = toy_world(numerics=Numerics(executor="sparse", kernel="torch"), steps=10)
    plain = train(training(replace(world, numerics=DENSE)))
    leg = train(training(world))
    assert leg.executor == "sparse (torch)"
    assert apart(plain.coords, leg.coords) < 10 * TOLERANCE


def test_numerics_are_named_by_what_changes_bits() -> None:
    names = {
        digest(Numerics(**fields).identity)
        for fields in (
            {},
            {"executor": "dense"},
            {"executor": "sparse"},
            {"executor": "sparse", "kernel": "torch"},
            {"kernel": "torch"},
        )
    }
    assert len(names) == 5
    assert Numerics(executor="dense", kernel="torch") == Numerics(executor="dense")


def test_examples_out_of_order_in_memory_are_read_right() -> None:
    world = images(Scaled())
    turned = world.train.inputs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    other = replace(world, train=Split(turned, world.train.targets))
    index = Batch(None, None, torch.arange(3)).index
    assert not turned.is_contiguous() and index is not None
    one, two = (train(training(replace(w, numerics=SPARSE))) for w in (world, other))
    assert one.coords.digest == two.coords.digest
