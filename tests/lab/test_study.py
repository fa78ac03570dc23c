"""A study from question to verdict, and what can be had from it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from toy import small_world, toy_network

import tombola as tb
from tombola.errors import CallError, CheckError, RecipeError, VerdictError
from tombola.lab.checks import checks_of, expected_exposure
from tombola.lab.question import Question
from tombola.lab.store import Store
from tombola.lab.study import open_study
from tombola.lab.verify import verify
from tombola.pieces.dynamics import Move, RigL
from tombola.pieces.rewind import ToStep
from tombola.recipes.controls import Drawn, Reinit
from tombola.recipes.imp import IMP, ONESHOT
from tombola.world.optimiser import SGD

SNIP_60 = replace(tb.recipes.SNIP, rule=tb.ByScore(score=tb.Saliency(batch_size=60)))
KEYS = [
    "schema",
    "study",
    "recipe",
    "world",
    "seeds",
    "rows",
    "verdict",
    "checks",
    "cost",
    "store",
    "report",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tb.Study:
    return tb.find(IMP, small_world(), seeds=3, store=tmp_path_factory.mktemp("lab") / "store")


def test_the_document_is_what_the_contract_says(study: tb.Study) -> None:
    assert list(study.document) == KEYS
    for row in study.rows:
        assert list(row) == ["arm", "round", "density", "kept", "total", "n", "metrics"]
        assert row["density"] == row["kept"] / row["total"]
        assert row["n"] == 3
        assert {"test_accuracy", "test_loss", "stop_step", "stop_test_accuracy"} <= set(
            row["metrics"]
        )
        accuracy = row["metrics"]["test_accuracy"]
        assert len(accuracy["values"]) == 3
        assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"]
    places = [(row["arm"], row["round"]) for row in study.rows]
    arms = ["ticket", "dense", "reinit", "shuffle"]
    assert places == sorted(places, key=lambda place: (arms.index(place[0]), place[1]))
    assert study.checks == dict.fromkeys(
        [
            "rewind_exact",
            "optimiser_fresh",
            "mask_nested",
            "count_exact",
            "cut_stays_zero",
            "arms_paired",
        ],
        True,
    )
    assert study.verdict.density == study.ticket().provenance["density"]


def test_controls_stand_at_the_judged_round_and_two_others() -> None:
    question = Question(
        recipe=replace(IMP, schedule=tb.LayerRates(rounds=12)),
        world=small_world(judged_density=0.3),
        seeds=(0,),
    )
    assert question.judged_round == 6
    assert question.control_rounds == (3, 6, 12)
    at_all = replace(question, controls_at="all")
    assert at_all.control_rounds == tuple(range(1, 13))
    assert replace(question, recipe=IMP).control_rounds == (2, 4, 6)


def test_the_same_call_trains_nothing_and_a_seed_more_that_seed(study: tb.Study) -> None:
    again = tb.find(IMP, small_world(), seeds=3, store=study.store.folder)
    assert again.document["cost"]["steps_trained"] == 0
    assert again.rows == study.rows
    assert again.digest == study.digest
    more = tb.find(IMP, small_world(), seeds=4, store=study.store.folder)
    cost = study.document["cost"]["steps_trained"]
    assert more.document["cost"]["steps_trained"] == cost // 3
    assert (
        more.rows[0]["metrics"]["test_loss"]["values"][:3]
        == (study.rows[0]["metrics"]["test_loss"]["values"])
    )


def test_another_margin_or_judged_density_trains_nothing(study: tb.Study) -> None:
    lenient = tb.find(
        IMP, small_world(margin=0.5, name="lenient"), seeds=3, store=study.store.folder
    )
    assert lenient.document["cost"]["steps_trained"] == 0
    assert lenient.digest != study.digest


def test_the_model_of_a_study_computes_what_was_reported(study: tb.Study) -> None:
    world = small_world()
    network = study.model(density=0.5)
    row = next(r for r in study.rows if r["arm"] == "ticket" and r["density"] <= 0.5)
    with torch.no_grad():
        right = (network(world.test.inputs).argmax(1) == world.test.targets).float().mean()
    assert float(right) == pytest.approx(row["metrics"]["test_accuracy"]["values"][0])
    zeros = sum(int((p == 0).sum()) for n, p in network.named_parameters() if n.endswith("weight"))
    assert zeros >= row["total"] - row["kept"]


def test_a_ticket_trained_again_by_hand_reaches_the_same_network(study: tb.Study, tmp_path) -> None:
    """From a ticket file alone, in a loop of one's own, to the same accuracy."""
    world = small_world()
    study.ticket(density=0.5).save(tmp_path / "ticket.safetensors")
    ticket = tb.Ticket.load(tmp_path / "ticket.safetensors")
    network = ticket.build(toy_network)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True)
    hold = ticket.hold(network, optimiser)
    for step in range(world.steps):
        epoch, place = divmod(step, world.steps_per_epoch)
        index = world.order(ticket.provenance["seed"], epoch)[place * 20 : place * 20 + 20]
        optimiser.zero_grad()
        inputs, targets = world.train.inputs[index], world.train.targets[index]
        torch.nn.functional.cross_entropy(network(inputs), targets).backward()
        optimiser.step()
    hold.release()
    for name, tensor in study.params(density=0.5).items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_stored_study_opens_by_prefix_and_is_judged_again(study: tb.Study) -> None:
    opened = open_study(Store(study.store.folder), study.digest[:8])
    assert (opened.rows, opened.checks) == (study.rows, study.checks)
    assert opened.judge("matching").as_json() == study.verdict.as_json()
    assert opened.judge("2019").rule == "2019"
    with pytest.raises(CallError, match="no study begins with 'zzz'"):
        open_study(study.store, "zzz")
    with pytest.raises(CallError, match="no rule 'mathcing'"):
        opened.judge("mathcing")
    with pytest.raises(CallError, match="no trial of arm 'ticket' with seed 9"):
        opened.trial(seed=9)
    with pytest.raises(CallError, match="no round at density"):
        opened.trial(density=1e-6)


def test_without_dense_there_is_no_verdict(tmp_path) -> None:
    with pytest.raises(VerdictError, match="dense"):
        tb.find(IMP, small_world(), seeds=3, arms=("ticket", "reinit"), store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_verify_recomputes_and_finds_a_result_that_differs(study: tb.Study) -> None:
    question = Question(recipe=IMP, world=small_world(), seeds=(0, 1, 2))
    fine = verify(question, study.store, sample=8)
    assert (fine["checked"], fine["equal"], fine["missing"]) == (8, 8, 0)

    other = Store(study.store.folder.parent / "other")
    tb.find(IMP, small_world(), seeds=3, store=other)
    key, job = _some_training(question, other)
    result = other.recall(key, type(job.placeholder(lambda part: part)))
    wrong = tb.Params({n: t + 1e-7 for n, t in result.params.load().items()})
    other.record(key, job.kind, replace(result, params=wrong), {"steps": 0})
    found = verify(question, other, sample=0)
    assert [d["call"] for d in found["differences"]] == [key]
    assert found["differences"][0]["parts"] == ["params"]


def _some_training(question: Question, store: Store):
    from tombola.lab.runner import Runner
    from tombola.recipes.jobs import Train

    runner = Runner(store, None)
    runner.drive(question.loops())
    # A control's training: nothing else depends on its result.
    return next(
        (key, job)
        for key, job in runner.tally.stored.items()
        if isinstance(job, Train) and job.begin.params.digest != _init(question, job.seed)
    )


def _init(question: Question, seed: int) -> str:
    from tombola.world.world import initial_params

    return initial_params(question.world, seed).digest


def test_several_draws_of_a_seed_are_averaged_first(tmp_path) -> None:
    one = tb.find(
        IMP, small_world(), seeds=2, arms=("dense", Reinit(draws=3)), store=tmp_path / "s"
    )
    row = next(r for r in one.rows if r["arm"] == "reinit")
    assert row["n"] == 2
    draws = [t for t in one.facts["trials"] if t["arm"] == "reinit" and t["round"] == row["round"]]
    assert len(draws) == 6
    world, each = small_world(), []
    for trial in draws[:3]:
        network = world.network(one.store.fetch(tb.Params, trial["params"])).eval()
        with torch.no_grad():
            hits = network(world.test.inputs).argmax(1) == world.test.targets
        each.append(float(hits.double().mean()))
    assert row["metrics"]["test_accuracy"]["values"][0] == pytest.approx(sum(each) / 3)


def test_another_recipe_stands_as_an_arm_at_the_same_targets(tmp_path) -> None:
    study = tb.find(IMP, small_world(), seeds=2, arms=("dense", ONESHOT), store=tmp_path / "s")
    kept = {
        arm: [r["kept"] for r in study.rows if r["arm"] == arm] for arm in ("ticket", "oneshot")
    }
    assert kept["ticket"] == kept["oneshot"]


def test_a_diverged_trial_is_a_loss_and_not_missing(tmp_path) -> None:
    world = small_world(optimiser=SGD(lr=1e30))
    study = tb.find(IMP, world, seeds=3, store=tmp_path / "s")
    assert [(row["arm"], row["round"]) for row in study.rows][-4:] == [
        ("reinit", 4),
        ("shuffle", 1),
        ("shuffle", 3),
        ("shuffle", 4),
    ]
    for row in study.rows:
        assert row["metrics"]["test_accuracy"] == {
            "mean": None,
            "low": None,
            "high": None,
            "values": [None, None, None],
        }
        assert row["n"] == 3
    assert study.verdict.outcome.name == "LOSES"
    assert tb.find(IMP, world, seeds=3, store=tmp_path / "s").document["cost"]["steps_trained"] == 0


# -- the self-checks, each made to fail ------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OtherData(Reinit):
    """A control that trains on other data: it claims `begin` and changes the seed."""

    def trainings(self, reference):
        drawn = yield from Reinit.trainings(self, reference)
        return tuple(replace(one, job=replace(one.job, seed=one.job.seed + 100)) for one in drawn)


@dataclass(frozen=True, kw_only=True)
class Idle(Reinit):
    """A control that does nothing: it trains the ticket."""

    def trainings(self, reference):
        yield from ()
        return (Drawn(job=reference.job, target=reference.target, cut=reference.cut),)


@pytest.mark.parametrize(
    ("control", "says"),
    [
        (OtherData(), "also changed \\['seed'\\]"),
        (Idle(), "left \\['begin'\\]"),
    ],
)
def test_arms_that_are_not_paired_stop_the_study(tmp_path, control, says) -> None:
    with pytest.raises(CheckError, match=f"arms_paired.*{says}"):
        tb.find(IMP, small_world(), seeds=1, arms=("dense", control), store=tmp_path / "s")


def test_exposure_adds_up_when_arms_start_at_different_steps(tmp_path) -> None:
    recipe = replace(IMP, rewind=ToStep(step=7))
    question = Question(recipe=recipe, world=small_world(), seeds=(0,))
    study = tb.find(recipe, small_world(), seeds=1, store=tmp_path / "s")
    assert study.checks["arms_paired"] is True
    from tombola.lab.engines.inline import Inline
    from tombola.lab.runner import Runner

    rounds = Runner(study.store, Inline(study.store)).drive(question.loops())
    dense = next(turns[0] for trial, turns in rounds.items() if trial.arm == "dense")
    assert int(dense.end.exposure, 16) == expected_exposure(question.world, 0, 40)
    trial, turns = next((t, x) for t, x in rounds.items() if t.arm == "reinit")
    forged = replace(turns[0], end=replace(turns[0].end, exposure="0" * 32))
    with pytest.raises(CheckError, match="have not seen the same"):
        checks_of(question, {**rounds, trial: (forged,)})


def test_a_check_that_did_not_apply_is_null(tmp_path) -> None:
    study = tb.find(
        IMP, small_world(judged_density=1.0), seeds=1, arms=("dense",), store=tmp_path / "s"
    )
    assert study.checks["mask_nested"] is None
    assert study.checks["cut_stays_zero"] is None
    assert study.checks["rewind_exact"] is True


# -- wrong questions -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NeedsTraining:
    """A score for trained weights."""

    needs: ClassVar[frozenset[tb.Need]] = frozenset({tb.Need.TRAINED})

    def __call__(self, at, probe):
        return {layer.name: at.end[layer.name].abs() for layer in at.layers}


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"seeds": 0}, CallError, "seeds=0"),
        ({"seeds": 10**12}, CallError, "at most 10,000"),
        ({"seeds": [1, 1]}, CallError, "twice"),
        ({"seeds": [-1]}, CallError, "-1"),
        ({"arms": ("dense", "reinti")}, CallError, "reinti"),
        ({"rule": "2091"}, CallError, "2091"),
        ({"controls_at": "some"}, CallError, "some"),
        ({"jobs": 0}, CallError, "jobs=0"),
        ({"recipe": replace(IMP, rewind=ToStep(step=41))}, RecipeError, "rewinds to step 41"),
        ({"recipe": replace(IMP, scope=tb.Scope(exclude=("fc*",)))}, RecipeError, "matches no"),
    ],
)
def test_a_wrong_question_starts_nothing(tmp_path: Path, change, error, says) -> None:
    settings = {"recipe": IMP, "seeds": 2, **change}
    recipe = settings.pop("recipe")
    with pytest.raises(error, match=says):
        tb.find(recipe, small_world(), store=tmp_path / "s", **settings)
    assert not list((tmp_path / "s").rglob("*.safetensors")) if (tmp_path / "s").exists() else True


def test_two_arms_of_one_name_are_refused() -> None:
    other = replace(ONESHOT, schedule=tb.LayerRates(rounds=1))
    with pytest.raises(CallError, match="two arms are named 'oneshot'"):
        tb.find(IMP, small_world(), seeds=1, arms=("dense", ONESHOT, other))
    with pytest.raises(CallError, match="two arms are named 'ticket'"):
        tb.find(IMP, small_world(), seeds=1, arms=("dense", replace(ONESHOT, name="ticket")))


def test_a_recipe_as_an_arm_keeps_its_own_way_of_sharing_a_density() -> None:
    question = Question(
        recipe=IMP,
        world=small_world(),
        seeds=(0,),
        arms={"dense": tb.recipes.Dense(), "snip": SNIP_60},
    )
    shared = question._aligned(SNIP_60).targets(question.world)
    assert [t.counts for t in shared[1:]] == [None] * len(question.targets[1:])
    assert [t.density for t in shared] == [t.density for t in question.targets]
    assert question._aligned(ONESHOT).targets(question.world) == question.targets


def test_what_would_fail_after_the_training_is_refused_before_it(tmp_path) -> None:
    fixed = small_world(model=_always_the_same)
    with pytest.raises(RecipeError, match="the same initial values at every draw"):
        tb.find(IMP, fixed, seeds=1, store=tmp_path / "s")
    with pytest.raises(RecipeError, match="keeps none of 192 weights"):
        tb.find(
            tb.recipes.KD_TICKET, small_world(judged_density=1e-4), seeds=1, store=tmp_path / "s"
        )
    threads = small_world(numerics=tb.Numerics(threads=2))
    with pytest.raises(CallError, match="do not survive a fork"):
        tb.find(IMP, threads, seeds=1, jobs=2, store=tmp_path / "s")
    trained = list((tmp_path / "s").rglob("calls/*")) if (tmp_path / "s").exists() else []
    assert trained == []


def _always_the_same() -> torch.nn.Module:
    network = toy_network()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(
                torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape) + number
            )
    return network


@dataclass(frozen=True, kw_only=True)
class Regrows:
    """A dynamics that brings everything back."""

    moves: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False
    reads_gradients: ClassVar[bool] = False

    def refuses(self, setting):
        return None

    def init(self, mask, params):
        return tb.Params({})

    def needs(self, state, step, until):
        return step == 20

    def update(self, state, moment, step):
        return Move(mask=tb.Mask({}), state=state)


def test_a_mask_that_grows_beyond_its_count_stops_the_study(tmp_path) -> None:
    recipe = replace(tb.recipes.RIGL, dynamics=Regrows())
    with pytest.raises(CheckError, match="count_exact"):
        tb.find(recipe, small_world(), seeds=1, arms=("dense",), store=tmp_path / "s")


def test_a_layer_with_nothing_left_in_any_seed_is_listed(tmp_path) -> None:
    recipe = replace(SNIP_60, schedule=tb.Densities(values=(0.02,)))
    study = tb.find(
        recipe, small_world(judged_density=0.02), seeds=4, arms=("dense",), store=tmp_path / "s"
    )
    row = next(r for r in study.rows if r["arm"] == "ticket")
    empty = set()
    for seed in range(4):
        mask = study.ticket(seed=seed, round=1).mask
        empty |= {n for n in mask.names if not bool(mask[n].any())}
    assert empty
    assert set(row["collapsed"]) == empty


@pytest.mark.parametrize(
    "recipe",
    [
        tb.recipes.EDGE_POPUP,
        replace(tb.recipes.RIGL, dynamics=RigL(every=10)),
    ],
)
def test_masks_that_move_are_not_said_to_be_nested(tmp_path, recipe) -> None:
    study = tb.find(recipe, small_world(), seeds=1, store=tmp_path / "s")
    held = {name for name, check in study.checks.items() if check}
    assert study.checks["mask_nested"] is None
    assert held == set(study.checks) - {"mask_nested"}
