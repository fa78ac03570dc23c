"""A strict study end to end on the toy world: cells, refusals with commands, names of worlds."""

from dataclasses import replace
from pathlib import Path

import pytest
from toy import small_world

import tombola as tb
from tombola.errors import CallError, VerdictError
from tombola.lab.grid import judge_grid
from tombola.lab.strict import STRICT
from tombola.lab.study import Study
from tombola.lookup import find_judge, find_rule, find_world
from tombola.recipes.imp import IMP
from tombola.recipes.worlds import varied
from tombola.testing import toy_world
from tombola.world.optimiser import SGD, Drops
from tombola.world.world import World

ARMS = ("dense", "reinit", "thin", "half-width")
NAMES = {
    "recipe": "imp",
    "world": "toy",
    "rule": "matching",
    "arms": ["dense", "reinit"],
    "controls_at": "judged",
    "draws": 1,
    "data": None,
}


def world() -> World:
    from tombola.world.models import LeNet

    def net(factor: float = 1.0) -> LeNet:
        return LeNet(6, max(1, round(12 * factor)), max(1, round(8 * factor)), 3)

    return small_world(model=net, thin=net)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Study]:
    store, base = tmp_path_factory.mktemp("grid") / "store", world()
    return [
        tb.find(IMP, varied(base, lr=lr), seeds=3, arms=ARMS, store=store)
        for lr in (0.01, 0.03, 0.1)
    ]


def test_cells_are_studies_and_the_definition_is_asked_of_all(studies: list[Study]) -> None:
    verdict = judge_grid(STRICT, studies)
    assert verdict.rates == (0.01, 0.03, 0.1)
    names = [one.finding.name for one in verdict.conditions]
    assert names == ["beats-thin", "beats-reinit", "matches-dense", "matches-best-dense"]
    assert [one.finding.name for one in verdict.controls] == ["beats-half-width"]
    assert {one.finding.n for one in verdict.conditions} == {3}
    assert judge_grid(STRICT, studies[::-1]) == verdict


def test_half_width_is_half_as_wide_and_trained_once(studies: list[Study]) -> None:
    rows = [row for row in studies[0].rows if row["arm"] == "half-width"]
    assert [row["round"] for row in rows] == [0]
    assert rows[0]["kept"] == 6 * 6 + 6 * 4 + 4 * 3
    assert studies[0].checks["arms_paired"] is True


def test_half_width_wants_a_world_that_can_be_thinner(tmp_path: Path) -> None:
    with pytest.raises(tb.TombolaError, match=r"arm 'half-width'.*World\(thin"):
        tb.find(
            IMP, small_world(thin=None), seeds=1, arms=("dense", "half-width"), store=tmp_path / "s"
        )


def named(study: Study, **names: object) -> Study:
    return replace(study, facts={**study.facts, "names": {**NAMES, **names}})


def test_missing_rates_come_with_the_commands_that_train_them(studies: list[Study]) -> None:
    few = [named(study, arms=list(ARMS)) for study in studies[:1]]
    with pytest.raises(VerdictError) as refused:
        judge_grid(STRICT, few)
    lines = str(refused.value).splitlines()[1:]
    assert lines == [
        f"tombola find imp --on toy,lr={lr} --seeds 3 --arms dense,reinit,thin,half-width"
        for lr in ("0.0316", "0.00316")
    ]


def test_missing_arms_come_with_the_command_that_trains_them(studies: list[Study]) -> None:
    lacking = [replace(one, facts={**one.facts, "arms": ["dense", "reinit"]}) for one in studies]
    with pytest.raises(VerdictError, match=r"tombola.find\(.., arms=\(.., 'thin'\)\)"):
        judge_grid(STRICT, lacking)
    lacking = [named(one) for one in lacking]
    with pytest.raises(VerdictError, match="--arms dense,reinit,thin"):
        judge_grid(STRICT, lacking)


def test_a_rule_that_lacks_an_arm_names_the_command(studies: list[Study]) -> None:
    study = studies[0]
    other = named(replace(study, facts={**study.facts, "arms": ["reinit"]}), arms=["reinit"])
    with pytest.raises(VerdictError, match="--arms reinit,dense"):
        other.judge("matching")
    with pytest.raises(VerdictError, match="--arms reinit,dense,shuffle --controls-at all"):
        other.judge_along("winning-densities")
    with pytest.raises(CallError, match="no rule 'dens' about densities"):
        study.judge_along("dens")


def test_studies_that_differ_in_more_are_no_grid(studies: list[Study], tmp_path: Path) -> None:
    other = tb.find(
        IMP, varied(replace(world(), batch_size=7), lr=0.3), seeds=3, arms=ARMS, store=tmp_path
    )
    with pytest.raises(CallError, match="differ in more than learning rate and length"):
        judge_grid(STRICT, [*studies, other])
    fewer = replace(studies[0], document={**studies[0].document, "seeds": [0, 1]})
    with pytest.raises(CallError, match="want the same"):
        judge_grid(STRICT, [*studies[1:], fewer])


def test_a_varied_world_differs_in_what_it_says_alone() -> None:
    base = toy_world(optimiser=SGD(lr=0.1, rate=Drops(at=(20,))), steps=40)
    slow = varied(base, lr=0.01, steps=80)
    assert (slow.optimiser.lr, slow.steps, slow.name) == (0.01, 80, f"{base.name},lr=0.01,steps=80")
    factors = [slow.optimiser.rate.factor(step, 80) for step in (39, 40)]
    assert factors == [1.0, 0.1]
    assert varied(base, lr=0.1).digest == base.digest


def test_worlds_are_named_at_other_rates_and_lengths() -> None:
    found = find_world("digits-short,steps=50,lr=0.3")
    assert (found.optimiser.lr, found.steps) == (0.3, 50)
    for text in ("digits,lr=fast", "digits,steps=0", "digits,lr=1,lr=2", "digits,steps=1.5"):
        with pytest.raises(CallError, match="want after the world at most one lr=NUMBER"):
            find_world(text)
    with pytest.raises(tb.TombolaError, match="positive number"):
        find_world("digits,lr=-1")
    with pytest.raises(CallError, match="no world 'digit'"):
        find_world("digit,lr=1")


def test_rules_for_finished_studies_are_found_by_judge_alone() -> None:
    assert find_judge("strict") is STRICT
    assert find_judge("densities").name == "densities"
    assert find_judge("matching").name == "matching"
    with pytest.raises(CallError, match=r"tombola judge STUDY STUDY \.\. --rule strict"):
        find_rule("strict")
    with pytest.raises(CallError, match=r"no rule 'strickt'\. Did you mean strict"):
        find_judge("strickt")
