"""Probes of a study: what they train, find, keep and refuse."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path as Folder
from statistics import mean
from typing import Any

import pytest
import torch
from toy import small_world

import tombola as tb
from tombola.errors import CallError, CheckError
from tombola.lab.gc import free, sweep
from tombola.lab.probe import Overlap, Row, Shown, Stability, Table, abreast
from tombola.lab.probe.barriers import Pair
from tombola.lab.probe.copies import check_ends, has_noise, with_noise
from tombola.lab.probe.path import Path, Walked
from tombola.lab.probe.probing import measure, planned
from tombola.lab.question import Question
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.lab.study import Study, open_study
from tombola.pieces.overlap import overlap
from tombola.recipes.controls import Dense, Reinit
from tombola.recipes.imp import IMP, IMP_REWIND
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train, Trained
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.batch import Batch
from tombola.world.optimiser import SGD

FEW = Stability(steps=(0, 10), points=5)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    arms = (Dense(), Reinit(draws=2))
    store = tmp_path_factory.mktemp("probes") / "store"
    return tb.find(IMP, small_world(), seeds=3, arms=arms, store=store)


def at(rows: list[dict[str, Any]], **place: Any) -> dict[str, Any]:
    (found,) = [row for row in rows if place.items() <= row.items()]
    return found


# -- stability -----------------------------------------------------------------------------------


def test_copies_differ_in_the_named_noise_alone() -> None:
    world = small_world()
    init = Init(world, 0).run(NoDesk()).params
    job = Train(world, 0, Point(init, None, 0), FULL, 40, world.objective)
    order, noise, both = (with_noise(job, name, 1) for name in ("order", "augmentation", "both"))
    assert (order.order_seed is None, order.noise_seed is None) == (False, True)
    assert (noise.order_seed is None, noise.noise_seed is None) == (True, False)
    assert both == replace(order, noise_seed=noise.noise_seed)
    assert replace(both, order_seed=None, noise_seed=None) == job
    assert with_noise(job, "order", 2) != order


def test_it_trains_one_copy_for_each_start_and_takes_the_rest_from_the_study(study: Study) -> None:
    """Steps by hand, a seed: dense and ticket copies of all 40 steps at 0, of 30 at 10; the leg to
    10 is part of the dense training, the ticket rewound to 10 is found anew in its rounds."""
    found = tb.probe(FEW, study)
    rounds = study.facts["setting"]["judged_round"]
    at_0, at_10 = 2 * 40, 30 + rounds * 30 + 30
    leg = 10  # trained once, to be kept: the dense training did not stop there
    assert found.document["cost"]["steps_trained"] == 3 * (at_0 + at_10 + leg)
    again = tb.probe(FEW, study)
    assert again.document["cost"]["steps_trained"] == 0
    assert again.document["tables"] == found.document["tables"]
    assert len(again.facts["costs"]) == 2


def test_barriers_are_those_of_copies_trained_and_walked_by_hand(study: Study) -> None:
    world, seed = small_world(), 1
    found = tb.probe(FEW, study)
    desk = NoDesk()
    init = Init(world, seed).run(desk).params
    own = Train(world, seed, Point(init, None, 0), FULL, 40, world.objective)
    early = replace(own, until=10).run(desk)
    copied = with_noise(replace(own, begin=early.point), "both", 1)
    one, other = own.run(desk).params.load(), copied.run(desk).params.load()
    errors = []
    for place in (0.0, 0.25, 0.5, 0.75, 1.0):
        network = world.network({n: torch.lerp(one[n], other[n], place) for n in one})
        with torch.no_grad():
            wrong = network(world.test.inputs).argmax(1) != world.test.targets
        errors.append(float(wrong.float().mean()))
    row = at(found.table("barriers"), arm="dense", step=10, split="test")
    barrier = max(errors) - mean([errors[0], errors[-1]])
    assert row["metrics"]["error_barrier"]["values"][seed] == pytest.approx(barrier, abs=1e-6)
    ends = mean([errors[0], errors[-1]])
    assert row["metrics"]["end_error"]["values"][seed] == pytest.approx(ends, abs=1e-6)
    path = [r for r in found.table("paths") if r["split"] == "test" and r["arm"] == "dense"]
    of_step = [r["metrics"]["error"]["values"][seed] for r in path if r["step"] == 10]
    assert of_step == pytest.approx(errors, abs=1e-6)
    assert found.document["checks"] == {"ends_exact": True}


def test_several_copies_are_averaged_before_seeds_are_counted(study: Study) -> None:
    probe = Stability(arms=("dense",), steps=(0,), copies=3, points=3, splits=("test",))
    row = tb.probe(probe, study).table("barriers")[0]
    assert row["n"] == len(row["metrics"]["error_barrier"]["values"]) == 3
    assert study.question is not None
    found = Runner(study.store, None).drive({"seed 0": probe.loop(study.question, 0)})
    pairs = found["seed 0"]["dense", "both"][0]
    errors = [pair.errors(("test", "interpolated")) for pair in pairs]
    assert len(errors) == 3
    expected = mean(max(of) - mean([of[0], of[-1]]) for of in errors)
    assert row["metrics"]["error_barrier"]["values"][0] == pytest.approx(expected)


def test_a_control_of_the_rewound_ticket_can_be_copied(study: Study) -> None:
    probe = Stability(arms=("reinit", "shuffle"), steps=(0, 10), points=3)
    rows = tb.probe(probe, study).table("barriers")
    assert {row["arm"] for row in rows} == {"reinit", "shuffle"}
    assert all(row["metrics"]["error_barrier"]["mean"] is not None for row in rows)


def test_copies_that_diverge_have_no_barrier_and_no_onset(tmp_path: Folder) -> None:
    wild = small_world(optimiser=SGD(lr=1e18))
    study = tb.find(IMP, wild, seeds=2, arms=("dense",), store=tmp_path / "s")
    found = tb.probe(FEW, study)
    for row in found.table("barriers"):
        assert row["metrics"]["error_barrier"]["values"] == [None, None] and row["n"] == 2
    assert found.table("onset")[0]["metrics"]["onset_step"]["mean"] is None
    assert tb.probe(Overlap(), study).table("overlap") == []


def heights(**of: float) -> dict[int, tuple[Pair, ...]]:
    """Pairs with these error barriers on training data, by step."""
    walked = {
        int(step[1:]): Walked(
            metrics={"accuracy": [1.0, 1.0 - height, 1.0]}, apart=1, first_moved=1, second_moved=1
        )
        for step, height in of.items()
    }
    return {k: (Pair(walked={("train", "interpolated"): w}),) for k, w in walked.items()}


def test_the_onset_is_where_all_later_steps_are_stable() -> None:
    onset = Stability().onset
    assert onset(heights(k0=0.5, k5=0.019, k9=0.0)) == 5
    assert onset(heights(k0=0.0, k5=0.5, k9=0.0)) == 9  # stable by chance before is not the onset
    assert onset(heights(k0=0.0, k5=0.0)) == 0
    assert onset(heights(k0=0.0, k5=0.02)) is None  # the threshold itself is unstable
    assert onset(heights(k0=0.0) | {5: ()}) is None


def test_the_search_halves_the_interval_until_it_is_narrow_enough() -> None:
    """Against the answer: for every true onset, the step found is stable, and the one before it
    that was looked at is unstable and within the width asked for."""
    world = small_world(steps=200)
    search = Stability(steps=(0, 100, 150), within=0.02)  # 4 steps
    for true in range(0, 151, 7):
        found = heights(**{f"k{k}": 0.0 if k >= true else 0.5 for k in (0, 100, 150)})
        while (step := search._next(found, world)) is not None:
            assert step not in found
            found |= heights(**{f"k{step}": 0.0 if step >= true else 0.5})
        onset = search.onset(found)
        assert onset is not None and onset >= true
        assert onset - true < 4 or true == 0
        assert len(found) <= 3 + 6
    assert Stability(steps=(0, 100))._next(heights(k0=0.5, k100=0.0), world) is None
    assert search._next(heights(k0=0.5, k100=0.5, k150=0.5), world) is None


def test_a_search_shows_every_step_it_looked_at(study: Study) -> None:
    """At a threshold that the grid straddles, whatever that is."""
    probe = Stability(arms=("dense",), steps=(0, 39), points=5, splits=("test",), threshold=0.004)
    found = tb.probe(replace(probe, within=0.1), study)
    tried = found.table("search")
    assert {row["seed"] for row in tried} == {0, 1, 2}
    assert all(row["n"] == 1 for row in tried)
    values = found.table("onset")[0]["metrics"]["onset_step"]["values"]
    for seed, onset in enumerate(values):
        own = [row for row in tried if row["seed"] == seed]
        steps = {row["step"]: row["metrics"]["error_barrier"]["mean"] for row in own}
        if onset is not None:
            assert all(height < 0.004 for step, height in steps.items() if step >= onset)
            below = [step for step in steps if step < onset]
            assert not below or (steps[max(below)] >= 0.004 and onset - max(below) <= 4)
    assert len(tried) > 6 or None in values or values == [0, 0, 0]


# -- the overlap ---------------------------------------------------------------------------------


def test_overlaps_are_of_the_networks_they_are_named_by(study: Study) -> None:
    rows = tb.probe(Overlap(), study).table("overlap")
    layers = IMP.layers(small_world())
    seed, number = 2, study.facts["setting"]["judged_round"]
    which = {"seed": seed, "round": number}
    mask, end = study.mask(**which), study.params(**which)
    init, dense = study.ticket(**which).init, study.params(arm="dense", seed=seed)
    pairs = {"start-end": (init, end), "dense-end": (dense, end), "init-dense": (init, dense)}
    for name, two in pairs.items():
        row = at(rows, arm="ticket", round=number, pair=name, share=0.2)
        expected = overlap(*two, layers, mask, 0.2)
        assert row["metrics"]["overlap"]["values"][seed] == expected
    itself = at(rows, arm="dense", round=0, pair="dense-end", share=0.3)["metrics"]
    assert itself["overlap"]["values"] == [1.0, 1.0, 1.0] and itself["moved"]["mean"] == 0.0


def test_the_reinitialised_control_starts_elsewhere_and_its_draws_are_averaged(
    study: Study,
) -> None:
    rows = tb.probe(Overlap(), study).table("overlap")
    number = study.facts["setting"]["judged_round"]
    place = {"arm": "reinit", "round": number, "share": 0.5}
    start, init, fresh = (
        at(rows, pair=pair, **place)["metrics"]["overlap"]
        for pair in ("start-end", "init-end", "fresh-end")
    )
    assert len(start["values"]) == 3
    assert start["mean"] > init["mean"] + 0.1 and start["mean"] > fresh["mean"] + 0.1
    trials = [t for t in study.facts["trials"] if (t["arm"], t["seed"]) == ("reinit", 0)]
    own = [t for t in trials if t["round"] == number]
    assert len(own) == 2
    mask, layers = study.mask(round=number), IMP.layers(small_world())
    each = [
        overlap(
            study.store.fetch(tb.Params, trial["init"]),
            study.store.fetch(tb.Params, trial["params"]),
            layers,
            mask,
            0.5,
        )
        for trial in own
    ]
    assert start["values"][0] == pytest.approx(mean(each))  # type: ignore[type-var]


def test_it_trains_nothing(study: Study) -> None:
    assert tb.probe(Overlap(), study).document["cost"]["steps_trained"] == 0


def test_a_smaller_network_is_left_out(tmp_path: Folder) -> None:
    study = tb.find(IMP, small_world(), seeds=1, arms=("dense", "thin"), store=tmp_path / "s")
    arms = {row["arm"] for row in tb.probe(Overlap(), study).table("overlap")}
    assert arms == {"ticket", "dense"}


# -- what is kept --------------------------------------------------------------------------------


def test_what_was_found_is_stored_and_garbage_collection_keeps_what_it_rests_on(
    tmp_path: Folder,
) -> None:
    store = Store(tmp_path / "s")
    study = tb.find(IMP, small_world(), seeds=1, arms=("dense",), store=store)
    found = tb.probe(FEW, study)
    (kept,) = store.probes(study.digest)
    assert kept["document"] == found.document
    free(store, sweep(store, unused_for=0.0))
    assert len(store.probes(study.digest)) == 1
    assert tb.probe(FEW, study).document["cost"]["steps_trained"] == 0
    free(store, sweep(store, [study.digest], unused_for=0.0))
    assert store.probes(study.digest) == [] and list(store.files("calls")) == []


def test_a_damaged_record_is_set_aside_and_found_again(tmp_path: Folder) -> None:
    store = Store(tmp_path / "s")
    study = tb.find(IMP, small_world(), seeds=1, arms=("dense",), store=store)
    found = tb.probe(Overlap(), study)
    (path,) = (store.folder / "probes").rglob("*.json")
    path.write_text(path.read_text().replace("overlap", "overlaq"))
    assert store.probes(study.digest) == []
    assert tb.probe(Overlap(), study).document["tables"] == found.document["tables"]


def test_an_interrupted_probe_keeps_what_it_finished_and_goes_on(study: Study, tmp_path) -> None:
    store = Store(tmp_path / "s")
    again = tb.find(IMP, small_world(), seeds=2, arms=("dense",), store=store)
    assert again.question is not None
    finished = 0

    def stop(event: object) -> None:
        nonlocal finished
        if type(event).__name__ == "Finished" and not event.stored:  # type: ignore[attr-defined]
            finished += 1
            if finished == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tb.probe(FEW, again, watchers=[stop])
    (command,) = [c for c in store.commands() if not c.alive]
    assert command.recipe == "probe stability of imp"
    assert not any(held.part == "calls" for held in sweep(store, unused_for=0.0).going)
    left = planned(FEW, again.question, store)
    done = tb.probe(FEW, again)
    assert done.document["cost"]["steps_trained"] > 0
    assert len(left.stored) >= 6 and store.commands() == []
    assert done.document["tables"] == tb.probe(FEW, study_of_two(tmp_path)).document["tables"]


def study_of_two(folder: Folder) -> Study:
    """The same study in another store."""
    store = folder / "undisturbed"
    return tb.find(IMP, small_world(), seeds=2, arms=("dense",), store=store)


def test_processes_find_what_one_finds(study: Study, tmp_path: Folder) -> None:
    again = tb.find(IMP, small_world(), seeds=3, arms=("dense",), store=tmp_path / "s", jobs=2)
    probe = replace(FEW, arms=("dense",))
    two = tb.probe(probe, again, jobs=2)
    assert two.document["tables"] == tb.probe(probe, study).document["tables"]


# -- the user's own ------------------------------------------------------------------------------


def length(end: Trained) -> float:
    return float(sum(tensor.square().sum() for tensor in end.params.load().values())) ** 0.5


@dataclass(frozen=True, kw_only=True)
class Norms:
    """How long the trained weights are."""

    name: str = field(default="norms", metadata={"identity": False})
    summary: str = field(default="length of the trained weights", metadata={"identity": False})
    source: str = field(default="this test", metadata={"identity": False})

    def refuses(self, question):
        return None

    def loop(self, question, seed):
        return (yield from tb.probes.finished(question, "ticket", seed))

    def show(self, question, found):
        rows = tuple(
            Row(place={"round": number}, metrics={"norm": [length(of.end) for of in turns]})
            for number, turns in enumerate(zip(*found, strict=True))
        )
        return Shown(tables=(Table(name="norms", title="Norms", rows=rows, printed=("norm",)),))


def test_a_probe_of_the_users_own_is_a_dataclass(study: Study) -> None:
    tb.testing.check_probe(Norms())
    found = tb.probe(Norms(), study)
    assert [row["n"] for row in found.table("norms")] == [3] * len(found.table("norms"))
    assert found.document["checks"] == {} and found.document["charts"] == []
    with pytest.raises(CallError, match="no table 'normz'; it has norms"):
        found.table("normz")


@pytest.mark.parametrize("probe", [tb.probes.OVERLAP, tb.probes.ONSET])
def test_ours_keep_the_contract(probe: Any) -> None:
    tb.testing.check_probe(probe)


def test_the_probe_in_the_documentation_keeps_the_contract() -> None:
    page = Folder(__file__).parents[2] / "docs" / "probes.md"
    (code,) = [
        one
        for one in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
        if "LENGTHS" in one
    ]
    session: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(code, str(page), "exec"), session)
    tb.testing.check_probe(session["LENGTHS"])


def test_the_contract_finds_what_is_wrong() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Misprints(Norms):
        def show(self, question, found):
            (table,) = Norms.show(self, question, found).tables
            return Shown(tables=(replace(table, printed=("mean",)),))

    with pytest.raises(AssertionError, match="prints"):
        tb.testing.check_probe(Misprints())


def test_loops_abreast_ask_together_and_end_each_at_its_own_time() -> None:
    def loop(name, turns):
        heard = []
        for turn in range(turns):
            heard.append((yield _Ask(f"{name}{turn}")))
        pair = yield (_Ask(f"{name}x"), _Ask(f"{name}y"))
        return [*heard, *pair]

    both, asked, answer = abreast([loop("a", 2), loop("b", 0), loop("c", 1)]), [], None
    while True:
        try:
            jobs = both.send(answer)
        except StopIteration as end:
            found = end.value
            break
        asked.append([job.said for job in jobs])
        answer = tuple(job.said.upper() for job in jobs)
    assert asked == [["a0", "bx", "by", "c0"], ["a1", "cx", "cy"], ["ax", "ay"]]
    assert found == (["A0", "A1", "AX", "AY"], ["BX", "BY"], ["C0", "CX", "CY"])


@dataclass(frozen=True)
class _Ask:
    said: str
    placeholder = None


# -- wrong calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": (0, 40)}, "step 40 is not inside the training of 40 steps; want 0 to 39"),
        ({"round": 9}, "there is no round 9; want 1 to"),
        ({"arms": ("dense", "twin")}, "there is no arm 'twin' to copy; there are dense, ticket, "),
        ({"noises": ("augmentation",)}, "neither augmentation nor dropout"),
    ],
)
def test_what_does_not_fit_a_study_is_refused_before_anything_is_trained(
    study: Study, changes: dict[str, Any], said: str
) -> None:
    calls = len(list(study.store.files("calls")))
    with pytest.raises(CallError) as refused:
        tb.probe(Stability(**changes), study)
    assert said in str(refused.value)
    assert len(list(study.store.files("calls"))) == calls


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"noises": ("data",)}, "want some of order, augmentation, both"),
        ({"splits": ("test", "test")}, "each once"),
        ({"statistics": ()}, "want some of interpolated, recomputed"),
        ({"arms": ()}, "at least one arm"),
        ({"steps": (10, 0)}, "rising"),
        ({"copies": 1}, "want a pair"),
        ({"points": 1}, "both ends of a path"),
        ({"threshold": 2.0}, "2 points are 0.02"),
        ({"within": 1.5}, "a fraction of the training"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CallError) as refused:
        Stability(**changes)
    assert said in str(refused.value)
    for wrong in ({"pairs": ("end-end",)}, {"shares": (0.0,)}):
        with pytest.raises(CallError, match="want"):
            Overlap(**wrong)  # type: ignore[arg-type]


def test_a_recipe_that_does_not_rewind_has_dense_copies_alone(tmp_path: Folder) -> None:
    snip = replace(tb.recipes.SNIP, rule=tb.ByScore(score=tb.Saliency(batch_size=60)))
    study = tb.find(snip, small_world(), seeds=1, arms=("dense",), store=tmp_path / "s")
    with pytest.raises(CallError, match=r"snip does not rewind to a step.*want arms=\('dense'"):
        tb.probe(FEW, study)
    assert tb.probe(replace(FEW, arms=("dense",)), study).table("barriers")


def test_a_study_from_the_store_has_to_be_found_again_and_a_class_is_no_probe(study) -> None:
    opened = open_study(study.store, study.digest)
    with pytest.raises(CallError, match="without its recipe and world; repeat its"):
        tb.probe(FEW, opened)
    with pytest.raises(CallError, match="Stability is a class; want an object"):
        tb.probe(Stability, study)  # type: ignore[arg-type]
    with pytest.raises(CallError, match="jobs=0"):
        tb.probe(FEW, study, jobs=0)


def test_the_end_of_a_walk_that_is_another_network_stops_the_probe(study: Study) -> None:
    world = small_world()
    params = study.params(arm="dense")
    path = Path(world=world, first=params, second=params, start=params)
    trial = study.trial(arm="dense")
    end = study.store.recall(trial["call"], Trained)
    assert end is not None
    loss = end.metrics["test_loss"]
    right = Walked(metrics={"loss": [loss, loss]}, apart=0, first_moved=0, second_moved=0)
    assert check_ends(path, right, end, end) is True
    assert check_ends(replace(path, split="train"), right, end, end) is None
    with pytest.raises(CheckError, match="ends_exact"):
        check_ends(path, replace(right, metrics={"loss": [loss, 1.01 * loss]}), end, end)


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Adds noise in training."""

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        if generator is None:
            return batch
        noise = torch.randn(batch.inputs.shape, generator=generator)
        return Batch(batch.inputs + noise, batch.targets, batch.index)


class Dropping(torch.nn.Sequential):
    """The toy network behind dropout."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Dropout(0.5), tb.testing.toy_net())


def test_noise_beside_the_order_is_found_where_there_is_some() -> None:
    assert not has_noise(small_world())
    assert has_noise(small_world(prepare=Jitter()))
    assert has_noise(small_world(model=Dropping))


def test_a_rewound_recipe_is_probed_at_its_own_step_from_the_store(tmp_path: Folder) -> None:
    """Its ticket at k is the study's own, so one copy is all that is trained."""
    recipe = replace(IMP_REWIND, rewind=tb.ToStep(step=10))
    study = tb.find(recipe, small_world(), seeds=1, arms=("dense",), store=tmp_path / "s")
    probe = Stability(arms=("ticket",), steps=(10,), points=3)
    assert tb.probe(probe, study).document["cost"]["steps_trained"] == 30


def test_measure_needs_no_study_object(study: Study) -> None:
    question = Question(recipe=IMP, world=small_world(), seeds=(0, 1, 2), arms=study.question.arms)
    found = measure(Overlap(), question, study.store)
    assert found.document["study"] == study.digest
