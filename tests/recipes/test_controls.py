"""Every control changes what it claims and nothing else; one that does not is caught."""

from dataclasses import replace

import pytest
import torch
from drive import drive
from toy import small_world

from tombola.pieces.dynamics import RigL
from tombola.pieces.schedule import Densities
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.recipes.controls import Dense, Reinit, Shuffle, ShuffleMask, unclaimed
from tombola.recipes.imp import IMP
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init
from tombola.recipes.obs import OBS
from tombola.recipes.rigl import RIGL
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.point import Point
from tombola.world.world import initial_params

WORLD = small_world()
RECIPE = IMP.up_to(2)


@pytest.fixture(scope="module")
def ticket():
    return drive(RECIPE.loop(RECIPE, WORLD, 0))[-1]


def test_dense_is_round_0_of_the_ticket() -> None:
    (dense,) = drive(Dense().loop(RECIPE, WORLD, 0))
    first = drive(RECIPE.loop(RECIPE, WORLD, 0))[0]
    assert dense.job.mask.digest == FULL.digest
    assert dense.end.params.digest == first.end.params.digest


def test_reinit_keeps_the_mask_and_changes_every_initial_weight(ticket) -> None:
    draws = drive(Reinit(draws=3).loop(RECIPE, WORLD, 0))
    assert [turn.draw for turn in draws] == [0, 1, 2]
    starts = [turn.job.begin.params.load() for turn in draws]
    assert len({start.digest for start in starts}) == 3
    for turn, start in zip(draws, starts, strict=True):
        assert turn.job.mask.digest == ticket.job.mask.digest
        assert turn.job.begin.step == ticket.job.begin.step
        assert turn.end.exposure == ticket.end.exposure
        for layer in WORLD.layers:
            same = start[layer.name] == ticket.job.begin.params.load()[layer.name]
            assert not bool(same.any())
        assert unclaimed(Reinit(), ticket.job, turn.job) is None


def test_reinit_draws_from_the_distribution_of_the_initial_values() -> None:
    """Pooled over seeds, layer by layer, the standard deviations agree within a tenth."""
    world = small_world()
    for layer in world.layers:

        def pooled(draw: int, name: str = layer.name) -> torch.Tensor:
            jobs = [Init(world=world, seed=seed, draw=draw) for seed in range(60)]
            return torch.cat([job.run(NoDesk()).params.load()[name].flatten() for job in jobs])

        assert abs(float(pooled(1).std() / pooled(0).std()) - 1) < 0.1


def test_shuffle_keeps_start_and_counts_and_moves_the_mask(ticket) -> None:
    (turn,) = drive(Shuffle().loop(RECIPE, WORLD, 0))
    assert turn.job.begin.params.digest == ticket.job.begin.params.digest
    assert turn.end.kept == ticket.end.kept
    assert turn.end.exposure == ticket.end.exposure
    for name, kept in turn.job.mask.load().items():
        assert not torch.equal(kept, ticket.job.mask.load()[name])
    assert unclaimed(Shuffle(), ticket.job, turn.job) is None


def test_shuffling_is_uniform_over_places() -> None:
    layer = Layer(name="w", shape=(4, 5), kind="linear", rate=0.8)
    mask = Mask({"w": torch.arange(20).reshape(4, 5) < 5})
    runs = 4_000
    total = torch.zeros(4, 5)
    for seed in range(runs):
        job = ShuffleMask(mask=mask, layers=(layer,), seed=seed, round=1)
        total += job.run(NoDesk()).mask.load()["w"].float()
    # Each place is kept with probability 1/4: standard deviation of the mean .0068.
    assert float((total / runs - 0.25).abs().max()) < 5 * 0.0068


def test_controls_that_do_something_else_are_named(ticket) -> None:
    (shuffled,) = drive(Shuffle().loop(RECIPE, WORLD, 0))
    (fresh,) = drive(Reinit().loop(RECIPE, WORLD, 0))

    def wrong(control, job) -> str:
        return str(unclaimed(control, ticket.job, job))

    assert "left ['mask']" in wrong(Shuffle(), ticket.job)
    assert "left ['begin']" in wrong(Reinit(), ticket.job)
    assert "also changed ['mask']" in wrong(Reinit(), shuffled.job)
    assert "also changed ['seed']" in wrong(Shuffle(), replace(shuffled.job, seed=5))
    later = replace(fresh.job, begin=Point(fresh.job.begin.params, None, 3))
    assert "another step" in wrong(Reinit(), later)


def test_where_the_mask_is_found_by_training_controls_take_the_found_one() -> None:
    """Against RigL: its final mask trained as it stands, from fresh values or shuffled."""
    recipe = replace(RIGL, dynamics=RigL(every=10), schedule=Densities(values=(0.5,)))
    (ticket,) = drive(recipe.loop(recipe, WORLD, 0))
    assert ticket.end.mask.digest != ticket.job.mask.digest
    (fresh,) = drive(Reinit().loop(recipe, WORLD, 0))
    (shuffled,) = drive(Shuffle().loop(recipe, WORLD, 0))
    assert fresh.job.mask.digest == ticket.end.mask.digest == fresh.end.mask.digest
    assert shuffled.end.kept == ticket.end.kept
    assert shuffled.end.mask.digest == shuffled.job.mask.digest != ticket.end.mask.digest
    assert shuffled.job.begin.params.digest == ticket.job.begin.params.digest


def test_where_weights_do_not_return_controls_train_from_scratch() -> None:
    recipe = replace(OBS, rule=OptimalBrainSurgeon(examples=60), schedule=Densities(values=(0.5,)))
    ticket = drive(recipe.loop(recipe, WORLD, 0))[-1]
    assert (ticket.end.began, ticket.end.step) == (WORLD.steps, WORLD.steps)
    assert ticket.end.metrics["stop_step"] == WORLD.steps
    (fresh,) = drive(Reinit().loop(recipe, WORLD, 0))
    (shuffled,) = drive(Shuffle().loop(recipe, WORLD, 0))
    assert (fresh.end.began, shuffled.end.began) == (0, 0)
    assert fresh.job.mask.digest == ticket.job.mask.digest
    assert shuffled.job.begin.params.digest == initial_params(WORLD, 0).digest
