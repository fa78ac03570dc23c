"""Masks that move, on the sparse executor: as on the plain one, at the cost of what is kept."""

from dataclasses import replace

import pytest
import torch

import tombola.train.loop as loop
from tombola.pieces.dynamics import (
    ACDC,
    SET,
    SNFS,
    Dynamics,
    Ending,
    Gradual,
    GraNet,
    RigL,
    Thinning,
    moves_of,
)
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.train.executors import choose, chosen
from tombola.train.executors.executor import Step
from tombola.train.executors.sparse import Sparse
from tombola.train.executors.whole import WholeGradients
from tombola.train.leg import Leg
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.digest import digest
from tombola.values.mask import FULL, Mask
from tombola.values.rng import stream
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD, Adam, Optimiser
from tombola.world.world import initial_params

DENSE, SPARSE = Numerics(executor="dense"), Numerics(executor="sparse")
TOLERANCE = 1e-5  # as for a mask that stays
ALL: dict[str, Dynamics] = {
    "set": SET(drop=0.6, every=7),
    "rigl": RigL(drop=0.6, every=7),
    "gradual": Gradual(every=7),
    "granet": GraNet(every=7),
    "ac-dc": ACDC(phase=0.1),
}
FIRST = {"set": 7, "rigl": 7, "gradual": 22, "granet": 7, "ac-dc": 6}  # step of the first update
OPTIMISERS: dict[str, Optimiser] = {
    "sgd": SGD(lr=0.1),
    "momentum": SGD(lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": Adam(lr=0.01, eps=1e-4),
}


def training(which: str, numerics: Numerics = SPARSE, optimiser: str = "momentum") -> Training:
    """60 steps of 6-12-8-3, a third of each tensor kept, or a sixth at the end."""
    world = toy_world(numerics=numerics, optimiser=OPTIMISERS[optimiser], evaluate_every=15)
    dynamics = ALL[which]
    third = {
        la.name: torch.rand(la.shape, generator=stream(2, la.name)) < 0.35 for la in world.layers
    }
    mask = Mask(third)
    if isinstance(dynamics, Thinning):
        mask = FULL if dynamics.opening(0.1) == 1.0 else mask
        asked = {layer.name: layer.count // 6 for layer in world.layers}
        dynamics = dynamics.ending_with(Ending(layers=world.layers, asked=asked))
    return Training(
        world=world,
        seed=4,
        params=initial_params(world, 4),
        mask=mask,
        step=0,
        until=world.steps,
        objective=world.objective,
        dynamics=dynamics,
    )


def apart(one: Leg, other: Leg) -> float:
    """The largest difference of coordinates and slots, over the largest number of the tensor."""
    assert one.slots.keys() == other.slots.keys()
    pairs = [(one.coords[n], other.coords[n]) for n in one.coords]
    pairs += [(one.slots[n], other.slots[n]) for n in one.slots]
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-3)) for a, b in pairs)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("which", ALL)
def test_an_update_is_that_of_the_plain_executor(which: str, optimiser: str) -> None:
    """From equal states: the same mask, and values and slots up to the order of sums."""
    job, step = training(which, DENSE, optimiser), FIRST[which]
    early = train(replace(job, until=step))
    assert not moves_of(early.state)
    begun = replace(job, params=early.coords, slots=early.slots or None, step=step, until=step + 1)
    legs = [train(replace(begun, world=replace(job.world, numerics=n))) for n in (DENSE, SPARSE)]
    assert [leg.executor.split()[0] for leg in legs] == ["dense", "sparse"]
    dense, sparse = legs
    assert moves_of(dense.state) and dense.mask.digest != job.mask.digest
    assert (sparse.mask.digest, sparse.state.digest) == (dense.mask.digest, dense.state.digest)
    assert apart(dense, sparse) < TOLERANCE


@pytest.mark.parametrize("which", ALL)
def test_counts_at_every_update_are_those_of_the_plain_executor(which: str) -> None:
    dense, sparse = (train(training(which, numerics)) for numerics in (DENSE, SPARSE))
    rows = [
        {name: [row[:2] for row in of] for name, of in moves_of(leg.state).items()}
        for leg in (dense, sparse)
    ]
    assert rows[0] == rows[1] and all(len(of) > 2 for of in rows[0].values())
    assert (sparse.executor.split()[0], sparse.exposure) == ("sparse", dense.exposure)
    assert sparse.checks["cut_stays_zero"] is True


@pytest.mark.parametrize(("which", "expected"), [("set", 0), ("rigl", 6), ("gradual", 3)])
def test_gradients_of_whole_tensors_are_computed_at_updates_that_look_at_them_alone(
    which: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SET looks at none; RigL at steps 7 to 42 of 45; an update of gradual pruning, at 22, 29 and
    36, does not take the place of the step, which wants them."""
    computed, asked = WholeGradients._computed, []
    monkeypatch.setattr(
        WholeGradients, "_computed", lambda self: asked.append(self._step.number) or computed(self)
    )
    train(training(which))
    assert len(asked) == expected and all(step in (*range(7, 43, 7), 22, 29, 36) for step in asked)


@pytest.mark.parametrize("optimiser", ["momentum", "adam"])
def test_no_moment_survives_where_a_connection_is_new_or_gone(optimiser: str) -> None:
    job = training("rigl", SPARSE, optimiser)
    before, after = (train(replace(job, until=until)) for until in (14, 15))
    slots = ["momentum_buffer"] if optimiser == "momentum" else ["exp_avg", "exp_avg_sq"]
    grown = 0
    for name, kept in after.mask.items():
        old = before.mask[name] & kept
        grown += int((kept & ~old).sum())
        for slot in (f"{which}/{name}" for which in slots):
            assert after.slots[slot][old].equal(before.slots[slot][old])
            assert not after.slots[slot][~old].any()
        assert after.coords[name][old].equal(before.coords[name][old])
        assert not after.coords[name][~old].any()
    assert grown > 5


@pytest.mark.parametrize("which", ALL)
def test_a_training_that_was_interrupted_ends_the_same(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(Sparse, "most", 10)
    kept: list[Leg] = []
    end = train(training(which), keep=kept.append)
    assert len(kept) > 4
    for leg in kept:
        assert digest(train(training(which), resume=leg)) == digest(end)


def test_a_network_put_aside_is_laid_out_as_the_mask_was_then() -> None:
    """Not as it is when somebody asks for it: so is the one of least validation loss."""
    job = training("set")
    executor = chosen(job).build(job, job.params, None)
    steps = [Step(n, torch.arange(8 * n, 8 * n + 8) % 40, 1.0, n) for n in range(20)]
    executor.advance(steps[:12])
    aside, then, mask = executor.frozen(), executor.standing().coords, executor.mask
    executor.advance(steps[12:])
    assert executor.mask.digest != mask.digest
    assert aside().digest == then.digest


@pytest.mark.parametrize("which", ALL)
def test_the_kernel_tells_of_a_finished_network_what_the_network_does(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last state, and of one with another mask: metrics of the test split."""
    job = training(which)
    early, leg = train(replace(job, until=FIRST[which])), train(job)
    leg = replace(leg, best=early.coords, best_mask=early.mask, best_step=early.step)
    assert early.mask.digest != leg.mask.digest
    wanted = {}
    for prefix, best in (("test_", False), ("stop_test_", True)):
        params, _ = loop.settled(job, leg, best) or pytest.fail()
        plain = evaluate(job.world.network(params), job.world, job.world.test)
        wanted |= {prefix + name: value for name, value in plain.items()}
    monkeypatch.delattr(loop, "evaluate")
    found = loop.final_metrics(job, leg)
    assert found == {**wanted, "stop_step": early.step} | {
        name: pytest.approx(wanted[name], rel=1e-5) for name in ("test_loss", "stop_test_loss")
    }
    assert found["test_loss"] != found["stop_test_loss"]


def test_a_dynamics_that_wants_every_step_is_left_to_the_plain_one() -> None:
    choice = chosen(replace(training("rigl"), dynamics=SNFS(every=7)))
    assert choice.name == "dense" and "SNFS is not Static or SET" in str(choice.why_dense)


def test_auto_counts_a_training_that_thins_out_with_the_mean_of_its_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From 1 to 1/6: 7/12."""
    auto = Numerics()
    for limit, name in ((0.6, f"sparse ({auto.kernel})"), (0.5, "dense")):
        monkeypatch.setattr(choose, "break_even", lambda kernel, weights, at=limit: at)
        assert chosen(training("gradual", auto)).name == name
    monkeypatch.setattr(choose, "break_even", lambda kernel, weights: 0.5)
    assert chosen(training("rigl", auto)).name.startswith("sparse")
