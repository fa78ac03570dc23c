"""What a report says of masks that move, against the record of the trainings."""

from dataclasses import replace
from itertools import pairwise

import pytest
from report_studies import data_in, image_world

import tombola as tb
from tombola.lab.study import Study
from tombola.out.report.moves import MOST_MARKS, Moved, _exchanged, _marks, costs_in, moves_in
from tombola.out.report.page import render
from tombola.pieces.dynamics import SET, Gradual, RigL
from tombola.pieces.schedule import Densities
from tombola.recipes.jobs import Trained

HALF = Densities(values=(0.5, 0.2))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    rigl = replace(tb.recipes.RIGL, dynamics=RigL(every=4), schedule=HALF)
    thinned = replace(tb.recipes.GRADUAL, dynamics=Gradual(every=3), schedule=HALF)
    arms = ("dense", replace(tb.recipes.SET, dynamics=SET(every=4)), thinned)
    store = tmp_path_factory.mktemp("moves") / "store"
    return tb.find(rigl, image_world(), seeds=2, rule="2019", arms=arms, store=store)


def trained(study: Study, arm: str, number: int) -> list[Trained]:
    trials = [t for t in study.facts["trials"] if (t["arm"], t["round"]) == (arm, number)]
    found = [study.store.recall(trial["call"], Trained) for trial in trials]
    assert len(found) == 2 and all(found)
    return [one for one in found if one is not None]


def test_coverage_ends_where_the_record_does_and_never_falls(study: Study) -> None:
    found = moves_in(study)
    assert found is not None and found["arms"] == ["ticket", "set", "gradual"]
    sizes = {"0.weight": 64 * 6, "2.weight": 6 * 3}
    for place, arm in enumerate(found["arms"]):
        line = found["figures"]["coverage"]["frames"]["1"][place]
        seen = [
            sum(
                one.moves[name][-1][4] if name in one.moves else one.kept.get(name, size)
                for name, size in sizes.items()
            )
            for one in trained(study, arm, 1)
            if one.moves is not None
        ]
        assert line["y"][-1] == pytest.approx(sum(seen) / 2 / 402)
        assert all(before <= after for before, after in pairwise(line["y"]))
        assert (line["x"][0], line["x"][-1], line["name"]) == (0, 30, arm)


def test_inputs_in_use_are_those_of_the_last_mask(study: Study) -> None:
    found = moves_in(study)
    assert found is not None
    ends = [one.mask.load()["0.weight"].any(dim=0).sum() for one in trained(study, "ticket", 2)]
    line = found["figures"]["inputs"]["frames"]["2"][0]
    assert line["y"][-1] == pytest.approx(float(sum(ends)) / 2)
    assert "n = 2" in line["text"][-1]


def test_births_and_deaths_of_a_layer_are_shares_of_its_connections(study: Study) -> None:
    found = moves_in(study)
    assert found is not None
    born, died, *_ = found["figures"]["arm ticket"]["frames"]["1"]
    rows = [(one.moves or {})["0.weight"] for one in trained(study, "ticket", 1)]
    for step, up, down in zip(born["x"], born["y"], died["y"], strict=True):
        at = [next((row for row in of if row[0] == step), None) for of in rows]
        expected = sum(row[2] / row[1] for row in at if row is not None) / 2
        assert up == pytest.approx(expected, rel=1e-4) and down == -up
    thinned = found["figures"]["arm gradual"]["frames"]["1"]
    assert not any(thinned[0]["y"]) and min(thinned[1]["y"]) < 0


def test_of_very_many_updates_some_are_marked_and_none_is_lost() -> None:
    rows = [[0, 10, 0, 0, 10, 5], *([step, 10, 1, 1, 10, 5] for step in range(1, 1_001))]
    one = Moved(rows={"w": rows}, kept={"w": 10}, end=1_001)
    marks = _marks([one])
    assert len(marks) <= MOST_MARKS and marks[-1] == 1_000
    born, died = _exchanged([one], ["w"])
    assert sum(born["y"]) == pytest.approx(100.0) and sum(died["y"]) == pytest.approx(-100.0)


def test_products_stand_beside_the_time(study: Study) -> None:
    rows = {(row["arm"], row["round"]): row for row in costs_in(study)}
    arms = ("ticket", "set", "gradual")
    assert set(rows) == {("dense", 0)} | {(arm, number) for arm in arms for number in (1, 2)}
    products = {place: float(row["products"].split()[0]) for place, row in rows.items()}
    assert products["dense", 0] == 1.0
    assert products["set", 1] == pytest.approx(0.5, abs=0.003)
    assert products["set", 1] < products["ticket", 1] < products["gradual", 1] < 1.0
    assert all(float(row["seconds"].split()[0]) > 0 and row["n"] == 2 for row in rows.values())


def test_the_page_has_it_all_and_studies_whose_masks_stay_have_none(study: Study, tmp_path) -> None:
    page = render(study)
    assert 'id="moves"' in page and set(data_in(page)["moves"]) == {
        "coverage",
        "inputs",
        "arm ticket",
        "arm set",
        "arm gradual",
    }
    still = tb.find(tb.recipes.IMP, image_world(), seeds=1, rule="2019", store=tmp_path / "s")
    other = render(still)
    assert 'id="moves"' not in other and data_in(other)["moves"] == {}
    assert {trial["products"] for trial in still.facts["trials"]} == {None}
