"""Every control changes what it claims and nothing else; one that does not is caught."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from drive import drive
from toy import small_world

from tombola.errors import RecipeError
from tombola.pieces.dynamics import RigL
from tombola.pieces.rewind import Stay, ToStep
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities
from tombola.pieces.score import Saliency
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.recipes import (
    EDGE_POPUP,
    IMP,
    IMP_CONTINUED,
    IMP_REWIND,
    KD_TICKET,
    OBS,
    ONESHOT,
    RIGL,
    SNIP,
    Recipe,
    Round,
)
from tombola.recipes.controls import (
    CONTROLS,
    Control,
    Dense,
    Drawn,
    Reference,
    Reinit,
    Shuffle,
    control_loop,
    of_ticket,
    unclaimed,
)
from tombola.recipes.controls.shuffle import ShuffleMask
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init
from tombola.testing import check_control
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.point import Point
from tombola.world.optimiser import SGD
from tombola.world.world import World, initial_params

WORLD = small_world(steps=20)
RECIPE = IMP.up_to(2)
SMALL = Densities(values=(0.5,))
FEW = OptimalBrainSurgeon(examples=60)
SNIP_60 = replace(SNIP, rule=ByScore(score=Saliency(batch_size=60)))


def trained(control: Control, recipe: Recipe = RECIPE, world: World = WORLD) -> tuple[Round, ...]:
    return drive(control_loop(control, recipe, world, 0))


def reference_of(recipe: Recipe, world: World = WORLD) -> Reference:
    ticket = drive(recipe.loop(recipe, world, 0))[-1]
    return of_ticket(recipe, ticket, initial_params(world, 0), world)


@pytest.fixture(scope="module")
def ticket() -> Round:
    return drive(RECIPE.loop(RECIPE, WORLD, 0))[-1]


@pytest.fixture(scope="module")
def reference(ticket: Round) -> Reference:
    return of_ticket(RECIPE, ticket, initial_params(WORLD, 0), WORLD)


# -- all of them, beside all kinds of recipe -----------------------------------------------------

LENGTHENED = {
    "imp": RECIPE,
    "imp-rewind": replace(IMP_REWIND, rewind=ToStep(step=15)).up_to(2),
    "imp-continued": IMP_CONTINUED.up_to(2),
    "oneshot": replace(ONESHOT, schedule=SMALL),
    "fine-tuned": replace(OBS, rule=FEW, schedule=SMALL, rewind=Stay(retrain=10)),
}
AS_LONG = {
    "snip": replace(SNIP_60, schedule=SMALL),
    "rigl": replace(RIGL, dynamics=RigL(every=10), schedule=SMALL),
    "edge-popup": EDGE_POPUP,
    "obs": replace(OBS, rule=FEW, schedule=SMALL),
}
BESIDE_ALL = {name: control for name, control in CONTROLS.items() if name != "inverted"}


@pytest.mark.parametrize("control", BESIDE_ALL.values(), ids=BESIDE_ALL)
@pytest.mark.parametrize("recipe", LENGTHENED.values(), ids=LENGTHENED)
def test_controls_stand_beside_recipes_that_train_before_they_cut(
    control: Control, recipe: Recipe
) -> None:
    check_control(control, recipe, WORLD)


@pytest.mark.parametrize("name", BESIDE_ALL)
@pytest.mark.parametrize("recipe", AS_LONG.values(), ids=AS_LONG)
def test_beside_one_training_nothing_is_lengthened(name: str, recipe: Recipe) -> None:
    if not name.endswith("-longer"):
        check_control(CONTROLS[name], recipe, WORLD)
        return
    with pytest.raises(RecipeError, match=rf"arm '{name}': .*takes 20 steps in all.*nothing to"):
        trained(CONTROLS[name], recipe)


def test_beside_a_distilled_ticket_all_but_the_thin_ones_learn_what_it_learns() -> None:
    recipe = replace(KD_TICKET, schedule=SMALL)
    for name in ("dense", "random", "dense-longer", "reinit-longer"):
        check_control(CONTROLS[name], recipe, WORLD)
    for name in ("thin", "thin-longer"):
        with pytest.raises(RecipeError, match=r"arm 'thin'.*learn from other networks \(teach"):
            trained(CONTROLS[name], recipe)
    (shuffled,) = trained(Shuffle(), recipe)
    assert shuffled.job.objective == recipe.retrain
    assert trained(Dense(), recipe)[0].job.objective == WORLD.objective


def test_a_ticket_that_diverged_has_no_controls() -> None:
    world = small_world(optimiser=SGD(lr=1e30))
    for control in BESIDE_ALL.values():
        if control.beside:
            assert trained(control, world=world) == ()
    assert trained(Dense(), world=world)[0].end.diverged


# -- dense, reinit, shuffle ----------------------------------------------------------------------


def test_dense_is_round_0_of_the_ticket() -> None:
    (dense,) = trained(Dense())
    first = drive(RECIPE.loop(RECIPE, WORLD, 0))[0]
    assert dense.job.mask.digest == FULL.digest
    assert dense.end.params.digest == first.end.params.digest
    assert dense.target.density == 1.0 and dense.target.round == 0


def test_reinit_keeps_the_mask_and_changes_every_initial_weight(
    ticket: Round, reference: Reference
) -> None:
    draws = trained(Reinit(draws=3))
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
        assert unclaimed(Reinit(), reference, turn.job) is None
    with pytest.raises(RecipeError, match=r"Reinit\(draws=0\): want at least one"):
        Reinit(draws=0)


def test_reinit_draws_from_the_distribution_of_the_initial_values() -> None:
    """Pooled over seeds, layer by layer, the standard deviations agree within a tenth."""
    world = small_world()
    for layer in world.layers:

        def pooled(draw: int, name: str = layer.name) -> torch.Tensor:
            jobs = [Init(world=world, seed=seed, draw=draw) for seed in range(60)]
            return torch.cat([job.run(NoDesk()).params.load()[name].flatten() for job in jobs])

        assert abs(float(pooled(1).std() / pooled(0).std()) - 1) < 0.1


def test_shuffle_keeps_start_and_counts_and_moves_the_mask(
    ticket: Round, reference: Reference
) -> None:
    (turn,) = trained(Shuffle())
    assert turn.job.begin.params.digest == ticket.job.begin.params.digest
    assert turn.end.kept == ticket.end.kept
    assert turn.end.exposure == ticket.end.exposure
    for name, kept in turn.job.mask.load().items():
        assert not torch.equal(kept, ticket.job.mask.load()[name])
    assert unclaimed(Shuffle(), reference, turn.job) is None


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


def test_a_small_mask_is_drawn_again_until_it_is_another() -> None:
    layer = Layer(name="w", shape=(2,), kind="linear", rate=0.8)
    for seed in range(20):
        mask = Mask({"w": torch.tensor([True, False])})
        job = ShuffleMask(mask=mask, layers=(layer,), seed=seed, round=1)
        assert job.run(NoDesk()).mask.load()["w"].tolist() == [False, True]
    job = ShuffleMask(mask=FULL, layers=(layer,), seed=0, round=1)
    assert job.run(NoDesk()).mask.load().digest == FULL.digest


# -- what is wrong is said -----------------------------------------------------------------------


def bent(job: Any, **changes: Any) -> Any:
    return replace(job, **changes)


def test_controls_that_do_something_else_are_named(reference: Reference) -> None:
    (shuffled,), (fresh,), (dense,) = trained(Shuffle()), trained(Reinit()), trained(Dense())
    ticket, other = reference.job, Mask({"layers.0.weight": torch.arange(72).reshape(12, 6) < 3})

    def wrong(control: Control, job: Any) -> str:
        return str(unclaimed(control, reference, job))

    assert "left ['mask']" in wrong(Shuffle(), ticket)
    assert "left ['begin']" in wrong(Reinit(), ticket)
    assert "also changed ['mask']" in wrong(Reinit(), shuffled.job)
    assert "also changed ['seed']" in wrong(Shuffle(), bent(shuffled.job, seed=5))
    assert "also changed ['until']" in wrong(Reinit(), bent(fresh.job, until=30))
    assert "shuffle cuts {'layers.0.weight': 69}" in wrong(Shuffle(), bent(ticket, mask=other))
    start = fresh.job.begin
    assert "another step" in wrong(Reinit(), bent(fresh.job, begin=replace(start, step=3)))
    slots = replace(start, slots=start.params)
    assert "optimiser state" in wrong(Reinit(), bent(fresh.job, begin=slots))
    assert "dense cuts weights" in wrong(Dense(), bent(dense.job, mask=other))
    late = Point(start.params, None, 3)
    assert "dense starts at step 3" in wrong(Dense(), bent(dense.job, begin=late))
    assert "also changed ['world']" in wrong(Dense(), bent(dense.job, world=small_world(steps=41)))


@dataclass(frozen=True, kw_only=True)
class Idle(Reinit):
    """A control that trains the ticket again."""

    def trainings(self, reference):
        yield from ()
        return (Drawn(job=reference.job, target=reference.target, cut=reference.cut),)


@dataclass(frozen=True, kw_only=True)
class Nobody(Reinit):
    """A control that trains nothing."""

    def trainings(self, reference):
        yield from ()
        return ()


def test_the_contract_check_finds_controls_that_break_it() -> None:
    with pytest.raises(AssertionError, match=r"'reinit' is not what it claims: .*left \['begin'\]"):
        check_control(Idle(), RECIPE, WORLD)
    with pytest.raises(AssertionError, match="'reinit' trains nothing"):
        check_control(Nobody(), RECIPE, WORLD)


# -- which training of a ticket they stand beside ------------------------------------------------


def test_where_the_mask_is_found_by_training_controls_take_the_found_one() -> None:
    """Against RigL: its final mask trained as it stands, from fresh values or shuffled."""
    recipe = AS_LONG["rigl"]
    (ticket,) = drive(recipe.loop(recipe, WORLD, 0))
    assert ticket.end.mask.digest != ticket.job.mask.digest
    (fresh,), (shuffled,) = trained(Reinit(), recipe), trained(Shuffle(), recipe)
    assert fresh.job.mask.digest == ticket.end.mask.digest == fresh.end.mask.digest
    assert shuffled.end.kept == ticket.end.kept
    assert shuffled.end.mask.digest == shuffled.job.mask.digest != ticket.end.mask.digest
    assert shuffled.job.begin.params.digest == ticket.job.begin.params.digest


def test_where_weights_do_not_return_controls_train_from_scratch() -> None:
    recipe = AS_LONG["obs"]
    ticket = drive(recipe.loop(recipe, WORLD, 0))[-1]
    assert (ticket.end.began, ticket.end.step) == (WORLD.steps, WORLD.steps)
    assert ticket.end.metrics["stop_step"] == WORLD.steps
    (fresh,), (shuffled,) = trained(Reinit(), recipe), trained(Shuffle(), recipe)
    assert (fresh.end.began, shuffled.end.began) == (0, 0)
    assert fresh.job.mask.digest == ticket.job.mask.digest
    assert shuffled.job.begin.params.digest == initial_params(WORLD, 0).digest
