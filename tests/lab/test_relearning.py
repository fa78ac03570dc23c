"""What tickets relearn: every number against networks trained and compared by hand."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
import torch
from drive import drive
from toy import small_world

import tombola as tb
from tombola.errors import CallError, CheckError
from tombola.lab.probe import RELEARNING, Relearning
from tombola.lab.probe.copies import with_noise
from tombola.lab.probe.opinions import Opinions, class_probabilities
from tombola.lab.probe.path import alphas, height
from tombola.lab.probe.probing import planned
from tombola.lab.probe.relearned import Relearned
from tombola.lab.probe.relearning import FRESH
from tombola.lab.study import Study
from tombola.pieces.dynamics import Gradual
from tombola.pieces.schedule import Densities
from tombola.recipes.job import NoDesk, jobs_in
from tombola.recipes.jobs import Train
from tombola.testing import check_probe
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.world import initial_params

PRUNING = Gradual(every=4)
PROBE = Relearning(copies=2, pruning=PRUNING, points=8)
SEED = 1


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = tmp_path_factory.mktemp("relearning") / "store"
    recipe = replace(tb.recipes.STATIC, schedule=Densities(values=(0.3,)))
    return tb.find(recipe, small_world(), seeds=2, rule="2019", arms=("dense",), store=store)


@pytest.fixture(scope="module")
def by_hand() -> Mapping[str, Params]:
    """The networks of one seed at the end, and where they started: `<name>/start`."""
    world = small_world()
    recipe = replace(tb.recipes.GRADUAL, schedule=Densities(values=(0.3,)), dynamics=PRUNING)
    (turn,) = drive(recipe.loop(recipe, world, SEED))
    mask, found = turn.end.mask.load(), {"solution": turn.end.params.load()}
    starts = {"ticket": initial_params(world, SEED)}
    for number in (1, 2):
        starts["scratch"] = initial_params(world, SEED, "draw", FRESH + number - 1)
        for kind, start in starts.items():
            begin = Point(start, None, 0)
            job = with_noise(Train(world, SEED, begin, mask, 40, world.objective), "both", number)
            found[f"{kind}-{number}"] = job.run(NoDesk()).params.load()
            found[f"{kind}-{number}/start"] = mask.apply(start)
    return found


def metrics(study: Study, table: str, **place: object) -> dict[str, float]:
    rows = tb.probe(PROBE, study).table(table)
    (row,) = [row for row in rows if place.items() <= row.items()]
    return {name: of["values"][SEED] for name, of in row["metrics"].items()}


def apart(one: Params, other: Params) -> float:
    return sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5


@pytest.mark.parametrize("kind", ["ticket", "scratch"])
def test_distances_before_and_after(study: Study, by_hand: Mapping[str, Params], kind: str) -> None:
    said, names = metrics(study, "distances", network=kind), [f"{kind}-1", f"{kind}-2"]
    after = mean(apart(by_hand[name], by_hand["solution"]) for name in names)
    before = mean(apart(by_hand[f"{name}/start"], by_hand["solution"]) for name in names)
    assert said["distance_at_end"] == pytest.approx(after, rel=1e-4)
    assert said["distance_at_start"] == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize("kind", ["ticket", "scratch"])
def test_answers_and_ensembles(study: Study, by_hand: Mapping[str, Params], kind: str) -> None:
    world = small_world()
    with torch.no_grad():
        chances = {
            name: world.network(of).eval()(world.test.inputs).softmax(1)
            for name, of in by_hand.items()
        }
    said = {name: of.argmax(1) for name, of in chances.items()}
    names, right = [f"{kind}-1", f"{kind}-2"], world.test.targets
    found = metrics(study, "answers", network=kind)
    expected = mean(float((said[n] != said["solution"]).float().mean()) for n in names)
    assert found["than_solution"] == pytest.approx(expected)
    between = float((said[names[0]] != said[names[1]]).float().mean())
    assert found["among_copies"] == pytest.approx(between)
    both = (chances[names[0]] + chances[names[1]]).argmax(1)
    for members, answers in ((1, said[names[0]]), (2, both)):
        one = metrics(study, "ensembles", network=kind, members=members)["test_accuracy"]
        assert one == pytest.approx(float((answers == right).float().mean()))


@pytest.mark.parametrize("kind", ["ticket", "scratch"])
def test_the_line_goes_past_both_ends_and_its_height_counts_between_them(
    study: Study, by_hand: Mapping[str, Params], kind: str
) -> None:
    world, places = small_world(), (-0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
    losses = []
    for number in (1, 2):
        one, other = by_hand[f"{kind}-{number}"], by_hand["solution"]
        of = []
        for place in places:
            network = world.network({n: (1 - place) * one[n] + place * other[n] for n in one})
            with torch.no_grad():
                raw = network(world.train.inputs)
            of.append(float(torch.nn.functional.cross_entropy(raw, world.train.targets)))
        losses.append(of)
    for number, place in enumerate(places):
        said = metrics(study, "paths", network=kind, alpha=place)["loss"]
        assert said == pytest.approx(mean(of[number] for of in losses), rel=1e-4)
    heights = [
        max(of[at] - (of[1] + places[at] * (of[6] - of[1])) for at in range(1, 7)) for of in losses
    ]
    found = metrics(study, "distances", network=kind)["loss_barrier"]
    assert found == pytest.approx(mean(heights), rel=1e-3, abs=1e-6)


def test_points_beyond_the_ends_are_the_published_ones() -> None:
    places = alphas(29, 0.2)
    assert (len(places), places[0], places[4], places[24], places[-1]) == (29, -0.2, 0.0, 1.0, 1.2)
    assert height([None, 1.0, 1.0, 1.0], [-0.5, 0.0, 0.5, 1.0]) == 0.0
    assert height([0.0, None, 1.0], [0.0, 0.5, 1.0]) is None


def test_what_it_trains_is_planned_and_then_there(tmp_path: Path) -> None:
    recipe = replace(tb.recipes.STATIC, schedule=Densities(values=(0.3,)))
    study = tb.find(
        recipe, small_world(), seeds=1, rule="2019", arms=("dense",), store=tmp_path / "s"
    )
    assert study.question is not None
    tally = planned(PROBE, study.question, study.store)
    assert sum(job.steps for job in tally.run.values()) == (1 + 2 * 2) * 40
    found = tb.probe(PROBE, study)
    assert found.document["cost"]["steps_trained"] == (1 + 2 * 2) * 40
    assert found.document["checks"] == {"same_mask": True}
    assert tb.probe(PROBE, study).document["cost"]["steps_trained"] == 0


def test_copies_differ_in_their_order_and_kinds_in_their_start_alone(study: Study) -> None:
    assert study.question is not None
    loop = PROBE.loop(study.question, 0)
    asked = next(loop)
    while len(jobs := jobs_in(asked)) < 4:
        results = tuple(job.run(NoDesk()) for job in jobs)
        asked = loop.send(results if isinstance(asked, tuple) else results[0])
    first, second, scratch, other = (job for job in jobs if isinstance(job, Train))
    assert first.order_seed != second.order_seed and first.begin == second.begin
    assert replace(first, begin=scratch.begin) == scratch
    assert replace(second, begin=other.begin) == other
    assert scratch.begin.params.digest != other.begin.params.digest
    assert None not in (first.order_seed, second.order_seed)  # nobody sees what the solution saw


def test_a_rewound_ticket_starts_from_the_step(study: Study) -> None:
    start = metrics(study, "distances", network="ticket")["distance_at_start"]
    rewound = tb.probe(replace(PROBE, step=8), study).table("distances")[0]
    near = rewound["metrics"]["distance_at_start"]["values"][SEED]
    assert near < 0.9 * start


def test_networks_of_different_masks_are_not_compared(study: Study) -> None:
    assert study.question is not None
    wrong = Relearned(walked={}, told=None, masks=("one", "other"))  # type: ignore[arg-type]
    with pytest.raises(CheckError, match="same_mask"):
        PROBE.show(study.question, [wrong, None])


def test_a_training_that_diverged_leaves_no_numbers(tmp_path: Path) -> None:
    wild = small_world(optimiser=tb.SGD(lr=1e18))
    recipe = replace(tb.recipes.STATIC, schedule=Densities(values=(0.3,)))
    study = tb.find(recipe, wild, seeds=2, rule="2019", arms=("dense",), store=tmp_path / "s")
    found = tb.probe(PROBE, study)
    assert found.document["checks"] == {"same_mask": None}
    for row in found.table("distances"):
        assert all(of["values"] == [None, None] for of in row["metrics"].values())


def test_probabilities_are_those_of_networks_in_inference_mode() -> None:
    world = small_world()
    params = initial_params(world, 0)
    chances = class_probabilities(world, params)
    assert chances.shape == (len(world.test), 3)
    assert torch.allclose(chances.sum(dim=1), torch.ones(len(chances), dtype=torch.float64))
    job = Opinions(world=world, networks={"a": params, "b": params}, groups={"g": ("a", "b")})
    told = job.run(NoDesk())
    assert told.disagree == {"a|b": 0.0} and told.together["g"] == [told.alone["a"]] * 2
    with pytest.raises(CallError, match="no networks"):
        Opinions(world=world, networks={"a": params}, groups={"g": ("a", "c")})


def test_it_keeps_the_contract_and_refuses_what_cannot_be_meant(study: Study) -> None:
    check_probe(RELEARNING)
    wrongs = (
        {"density": 1.0},
        {"density": 0.0},
        {"copies": 1},
        {"step": -1},
        {"points": 30},
        {"statistics": "none"},
        {"examples": 0},
    )
    for wrong in wrongs:
        with pytest.raises(CallError, match=r"Relearning\("):
            Relearning(**wrong)  # type: ignore[arg-type]
    for one, why in (
        (Relearning(step=40), "no step 40 to rewind to"),
        (Relearning(pruning=Gradual(every=100)), "Gradual.* take a smaller `every`"),
        (Relearning(density=0.001), "keeps none of 192 weights"),
    ):
        with pytest.raises(CallError, match=why):
            tb.probe(one, study)
