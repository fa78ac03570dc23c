"""Frozen: what the network computes with, what is trained, and the run's check of what is not."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from tombola.errors import CheckError
from tombola.pieces.parametrisation import Frozen, Identity
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Train
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.train.loop import settled, train
from tombola.train.training import Training
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD, AdamW
from tombola.world.world import World, initial_params

FROZEN = Frozen()
W = torch.tensor([[0.5, -0.25, -0.0], [2.0, 0.0, -1.0]])
KEPT = torch.tensor([[True, False, False], [True, True, False]])
PARAMS, MASK = Params({"w": W, "b": torch.ones(2)}), Mask({"w": KEPT})
W0 = "layers.0.weight"
CUT = Mask({W0: torch.arange(72).reshape(12, 6) % 3 == 0})


def bits(tensor: Tensor) -> list[int]:
    return tensor.flatten().view(torch.int32).tolist()


def training(world: World, mask: Mask = CUT, **changes: object) -> Training:
    start = initial_params(world, 3)
    plain = Training(
        world=world,
        seed=3,
        params=start,
        mask=mask,
        step=0,
        until=world.steps,
        objective=world.objective,
        parametrisation=FROZEN,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_kept_and_cut_weights_are_two_tensors_that_add_up() -> None:
    coords = FROZEN.coords(PARAMS, MASK, 0)
    assert coords["w"].tolist() == [[0.5, 0.0, 0.0], [2.0, 0.0, 0.0]]
    assert coords["frozen/w"].tolist() == [[0.0, -0.25, 0.0], [0.0, 0.0, -1.0]]
    assert coords.keys() == {"w", "b", "frozen/w"}
    assert FROZEN.effective(coords, MASK, 0)["w"].equal(W)
    assert FROZEN.trained(frozenset(coords)) == {"w", "b"}
    final, mask = FROZEN.settle(coords, MASK)
    assert mask is MASK and final.keys() == PARAMS.keys()
    assert bits(final["w"]) == bits(W)  # -0.0 too


def test_what_is_not_cut_stays_one_tensor() -> None:
    coords = FROZEN.coords(PARAMS, FULL, 0)
    assert coords.digest == PARAMS.digest
    assert FROZEN.effective(coords, FULL, 0) == {}
    assert FROZEN.settle(coords, FULL)[0].digest == PARAMS.digest


@pytest.mark.parametrize("optimiser", [SGD(lr=0.1, momentum=0.9), AdamW(lr=0.01, weight_decay=1.0)])
def test_training_moves_kept_weights_and_no_cut_one(optimiser: SGD | AdamW) -> None:
    job = training(toy_world(optimiser=optimiser))
    final, _ = settled(job, train(job)) or (None, None)
    assert final is not None
    start, kept = job.params[W0], CUT[W0]
    assert bits(final[W0][~kept]) == bits(start[~kept])
    assert bool((final[W0][kept] != start[kept]).all())
    assert not final["layers.0.bias"].equal(job.params["layers.0.bias"])


def test_one_step_is_that_of_a_network_with_its_gradient_masked() -> None:
    world = toy_world(optimiser=SGD(lr=0.1))
    job = training(world, until=1)
    final, _ = settled(job, train(job)) or (None, None)
    assert final is not None
    network, index = world.network(job.params), world.order(3, 0)[: world.batch_size]
    loss = nn.functional.cross_entropy(
        network(world.train.inputs[index]), world.train.targets[index]
    )
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        moved = parameter - 0.1 * parameter.grad
        kept = CUT.of(name, parameter.shape)
        expected = torch.where(kept, moved, parameter).detach()
        torch.testing.assert_close(final[name], expected, rtol=1e-6, atol=1e-7)


def test_what_is_measured_in_training_is_the_finished_network() -> None:
    job = training(toy_world())
    end = train(job)
    final, _ = settled(job, end) or (None, None)
    assert final is not None
    world = job.world
    measured = evaluate(world.network(final), world, world.validation)
    assert measured == end.readings[-1].metrics
    sparse = evaluate(world.network(CUT.apply(final)), world, world.validation)
    assert sparse != measured


def test_zeros_at_cut_places_make_an_ordinary_ticket() -> None:
    job = training(toy_world(numerics=Numerics(executor="dense")))
    ordinary = replace(job, parametrisation=Identity())
    zeroed = replace(job, params=CUT.apply(job.params))
    one, other = (settled(j, train(j)) for j in (ordinary, zeroed))
    assert one is not None and other is not None
    assert one[0].digest == other[0].digest


# -- the run's own check -------------------------------------------------------------------------


def job(parametrisation: Frozen, mask: Mask = CUT) -> Train:
    world = toy_world()
    begin = Point(initial_params(world, 3), None, 0)
    return Train(
        world, 3, begin, mask, world.steps, world.objective, parametrisation=parametrisation
    )


@dataclass(frozen=True)
class Bent(Frozen):
    """Frozen, but something happens to the finished network."""

    bend: Callable[[Tensor], Tensor]

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        final, mask = super().settle(coords, mask)
        bent = torch.where(mask[W0], final[W0], self.bend(final[W0]))
        return final.replaced({W0: bent}), mask


def test_a_run_says_that_nothing_was_cut_to_zero() -> None:
    checks = job(FROZEN).run(NoDesk()).checks
    assert checks == {"rewind_exact": True, "optimiser_fresh": True, "cut_stays_zero": None}
    assert job(FROZEN, FULL).run(NoDesk()).checks["cut_stays_zero"] is None


@pytest.mark.parametrize(
    "bend",
    [lambda w: w * 0.0, lambda w: w + 1e-7, lambda w: -w],
    ids=["cut to zero", "moved", "another sign"],
)
def test_frozen_weights_that_changed_stop_the_run(bend: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(CheckError, match=f"cut_stays_frozen: cut weights of '{W0}' are not"):
        job(Bent(bend)).run(NoDesk())
    job(Bent(lambda w: w)).run(NoDesk())


@dataclass(frozen=True)
class Trains(Frozen):
    """Trains the frozen weights too."""

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return names


def test_frozen_weights_that_are_trained_stop_the_run() -> None:
    with pytest.raises(CheckError, match="cut_stays_frozen"):
        job(Trains()).run(NoDesk())


@dataclass(frozen=True)
class Rescales(Frozen):
    """Starts kept weights from other values."""

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        return super().coords(params.replaced({W0: params[W0] + 1e-7}), mask, seed)


def test_kept_weights_that_do_not_start_from_their_stored_values_stop_the_run() -> None:
    with pytest.raises(CheckError, match=f"rewind_exact: '{W0}' does not start from its stored"):
        job(Rescales()).run(NoDesk())
