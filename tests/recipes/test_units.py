"""Tickets of whole units: what they keep, what their controls change, what a study says of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drive import drive
from toy import small_world

import tombola as tb
from tombola.errors import CheckError, RecipeError, TicketError
from tombola.lookup import find_recipe
from tombola.pieces.by_units import ByUnits
from tombola.pieces.dynamics import SET
from tombola.pieces.rule import Cut
from tombola.pieces.schedule import Densities, Geometric, Target
from tombola.pieces.score import Magnitude, Probe, Saliency, Snapshot
from tombola.recipes import BLOCKS, N_OF_M, SNIP, UNITS, UNITS_ONESHOT, Recipe, Round
from tombola.recipes.catalogue import STRUCTURED
from tombola.recipes.controls import CONTROLS, Reference, control_loop, of_ticket
from tombola.recipes.controls.rearranged import RearrangeUnits
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Prune
from tombola.testing import check_control
from tombola.values.mask import FULL, Mask
from tombola.values.ticket import Ticket
from tombola.values.units import alive, expanded
from tombola.world.world import World, initial_params

WORLD = small_world(steps=20)
HALF = Densities(values=(0.5,))
TOGETHER = replace(UNITS, name="together", schedule=Geometric(keep=0.5, rounds=2))
SMALL = ByUnits(score=Magnitude(), basis=tb.Blocks(rows=1, columns=2))
SNIPPED = replace(SNIP, rule=ByUnits(score=Saliency(batch_size=60)), schedule=HALF)


def rounds(recipe: Recipe, world: World = WORLD) -> tuple[Round, ...]:
    return drive(recipe.loop(recipe, world, 0))


def shapes(world: World) -> dict[str, tuple[int, ...]]:
    return {layer.name: layer.shape for layer in world.layers}


def test_targets_count_units_and_masks_are_those_of_whole_units() -> None:
    targets = UNITS.targets(WORLD)
    assert targets[1].counts == {"layers.0": 10, "layers.1": 6}  # .8 of 12 and of 8
    assert UNITS.counted(WORLD)[0].kind == "linear"
    sets = WORLD.coupling.sets
    for turn in rounds(UNITS)[1:]:
        assert turn.cut is not None and turn.cut.units is not None
        units, mask = turn.cut.units.load(), turn.job.mask.load()
        assert mask.digest == expanded(units, sets, shapes(WORLD)).digest
        assert alive(mask, sets, shapes(WORLD)).digest == units.digest
        kept = {one.name: units.kept(one.name, one.count) for one in sets}
        assert kept == turn.target.counts
        weights = sum(turn.cut.kept.values())
        assert (
            weights
            == UNITS.size(WORLD, turn.target)
            == 6 * (a := kept["layers.0"]) + (a * (b := kept["layers.1"]) + 3 * b)
        )


def test_the_catalogue_has_them_and_patterns_are_kept() -> None:
    assert [find_recipe(name).name for name in STRUCTURED] == list(STRUCTURED)
    turn = rounds(replace(BLOCKS, rule=SMALL, schedule=HALF))[-1]
    mask = turn.job.mask.load()
    for name, shape in shapes(WORLD).items():
        if name in mask:
            pairs = mask[name].reshape(shape[0], -1, 2)
            assert torch.equal(pairs[..., 0], pairs[..., 1])
    of_two = replace(N_OF_M, rule=tb.NOfM(score=Magnitude(), m=2))
    mask = rounds(of_two)[-1].job.mask.load()
    for name in shapes(WORLD):
        assert bool((mask[name].unflatten(1, (-1, 2)).sum(-1) == 1).all())


@pytest.mark.parametrize(
    ("of", "recipe"),
    [
        (name, recipe)
        for name in ("dense", "reinit", "shuffle", "random", "thin", "half-width")
        for recipe in (UNITS.up_to(2), replace(BLOCKS, rule=SMALL, schedule=HALF))
        if name != "thin" or recipe.name == "units"
    ]
    + [("inverted", SNIPPED), ("shuffle", SNIPPED), ("random", TOGETHER)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_controls_change_what_they_claim(of: str, recipe: Recipe) -> None:
    check_control(CONTROLS[of], recipe, WORLD)


def beside(recipe: Recipe) -> Reference:
    return of_ticket(recipe, rounds(recipe)[-1], initial_params(WORLD, 0), WORLD)


def counts(units: Mask) -> dict[str, int]:
    return {one.name: units.kept(one.name, one.count) for one in WORLD.coupling.sets}


def test_shuffle_moves_units_within_their_set() -> None:
    recipe = UNITS.up_to(2)
    reference = beside(recipe)
    (turn,) = drive(control_loop(CONTROLS["shuffle"], recipe, WORLD, 0))
    assert reference.cut is not None and turn.cut is not None
    own, theirs = turn.cut.units.load(), reference.cut.units.load()
    assert own.digest != theirs.digest and counts(own) == counts(theirs)
    assert turn.cut.kept == reference.cut.kept
    whole = expanded(own, WORLD.coupling.sets, shapes(WORLD))
    assert turn.job.mask.load().digest == whole.digest


def test_random_draws_as_many_units_evenly_and_leaves_no_set_empty() -> None:
    """8 of 20 units, one at least of each set: the chance that a set of 8 draws none is small, so
    the mean is near .4 everywhere; 600 draws have a deviation of .02."""
    units = Mask({"layers.0": torch.arange(12) < 5, "layers.1": torch.arange(8) < 3})
    total = {"layers.0": torch.zeros(12), "layers.1": torch.zeros(8)}
    for seed in range(600):
        job = RearrangeUnits(
            world=WORLD,
            rule=UNITS.rule,
            layers=WORLD.layers,
            units=units,
            within=False,
            seed=seed,
            round=1,
        )
        found = job.run(NoDesk())
        assert found.checks["count_exact"] and found.units is not None
        drawn = found.units.load()
        assert sum(counts(drawn).values()) == 8 and min(counts(drawn).values()) >= 1
        for name, sum_of in total.items():
            sum_of += drawn.of(name, sum_of.shape).float()
    assert all(bool(((part / 600 - 0.4).abs() < 0.1).all()) for part in total.values())


def test_a_cut_that_leaves_weights_of_a_cut_unit_stops_the_run() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Leaky(ByUnits):
        def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
            found = super().cut(at, probe, target)
            weights = dict(found.mask.items())
            kept = weights["layers.0.weight"].clone()
            kept[~kept.any(dim=1)] = True
            return replace(found, mask=Mask({**weights, "layers.0.weight": kept}))

    start = Init(world=WORLD, seed=0).run(NoDesk()).params
    target = Target(round=1, density=0.5)
    job = Prune(WORLD, 0, Leaky(score=Magnitude()), WORLD.layers, target, start, start, FULL)
    with pytest.raises(CheckError, match="count_exact: the mask keeps weights of units that are"):
        job.run(NoDesk())


@pytest.mark.parametrize(
    ("recipe", "arms", "message"),
    [
        (TOGETHER, ["thin"], "ranks units of all sets together, .* take half-width"),
        (UNITS, ["erk"], "arm 'erk' shares weights .* recipe 'units' cuts whole units"),
        (replace(SNIPPED, dynamics=SET(every=5)), [], "SET moves single weights, which takes the"),
        (replace(UNITS, schedule=Densities(values=(0.04,))), [], "sets .* would be emptied"),
        (N_OF_M, [], r"does not divide the inputs of 'layers.0.weight', .*\(12, 6\)"),
        (BLOCKS, [], r"Blocks\(rows=2, columns=4\) does not divide 'layers.0.weight'"),
    ],
    ids=["thin", "erk", "moves", "emptied", "n of m", "blocks"],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    recipe: Recipe, arms: list[str], message: str, tmp_path: Path
) -> None:
    world = replace(WORLD, rates=0.8) if recipe.name != "units" or not arms else WORLD
    with pytest.raises(RecipeError, match=message):
        tb.find(recipe, world, seeds=1, arms=["dense", "ticket", *arms], store=tmp_path / "store")
    assert not list((tmp_path).glob("store/calls/*"))


def test_a_study_gives_tickets_that_say_their_units(tmp_path: Path) -> None:
    recipe = replace(UNITS_ONESHOT, schedule=Densities(values=(0.5, 0.2)))
    world = replace(WORLD, rates=0.8)  # all sets ranked together
    study = tb.find(recipe, world, seeds=2, arms=["dense", "ticket", "random"], store=tmp_path)
    assert study.checks["count_exact"] and study.checks["arms_paired"]
    for row in study.rows:
        of = [
            t for t in study.facts["trials"] if (t["arm"], t["round"]) == (row["arm"], row["round"])
        ]
        kept = [sum(trial["kept"].values()) for trial in of]
        assert row["density"] == pytest.approx(sum(kept) / len(kept) / 192)
    ticket = study.ticket(round=2)
    assert ticket.basis is not None and set(ticket.basis) == {"layers.0", "layers.1"}
    sets = world.coupling.sets
    assert expanded(ticket.units, sets, shapes(world)).digest == ticket.mask.digest
    assert sum(ticket.units.kept(one.name, one.count) for one in sets) == 4
    path = tmp_path / "mine.safetensors"
    ticket.save(path)
    again = Ticket.load(path)
    assert (again.digest, again.units.digest) == (ticket.digest, ticket.units.digest)
    assert again.basis == ticket.basis
    assert replace(ticket, units=FULL).digest != ticket.digest
    assert replace(ticket, basis=None, units=FULL).digest != ticket.digest


def ticket(**changes: Any) -> Ticket:
    (one, other) = WORLD.coupling.sets
    fields: dict[str, Any] = {
        "init": initial_params(WORLD, 0),
        "mask": FULL,
        "start_step": 0,
        "units": Mask({one.name: torch.arange(12) < 5}),
        "basis": {one.name: one.facts(), other.name: other.facts()},
    }
    return Ticket(**fields | changes)


def test_a_ticket_whose_units_do_not_fit_its_basis_is_refused() -> None:
    assert Ticket.decode(ticket().encode()).digest == ticket().digest
    wrong = ticket(units=Mask({"layers.0": torch.arange(13) < 5}))
    with pytest.raises(
        TicketError, match=r"units 'layers.0' is torch.bool \(13,\), .* says \[12\]"
    ):
        Ticket.decode(wrong.encode())
    with pytest.raises(TicketError, match="knows weights, and units by set"):
        Ticket.decode(ticket(basis={"layers.0": {"rotated": 1}}).encode())
    with pytest.raises(TicketError, match=r"mask of 'layers.0' .* does not fit any tensor"):
        Ticket.decode(ticket(basis={}).encode())
    damaged = ticket(provenance={"lineage": {"units": "0" * 64}})
    with pytest.raises(TicketError, match="damaged: its units is not what its lineage says"):
        Ticket.decode(damaged.encode())
