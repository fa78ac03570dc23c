"""The plots of a verdict's conditions: accepted by plotly, with the verdict's own numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from report_studies import data_in, plain
from toy import small_world

import tombola as tb
from tombola.lab.study import Study
from tombola.lab.verdict import RULE_2019
from tombola.out.report.forest import condition_forests, density_forest
from tombola.out.report.page import render
from tombola.recipes.imp import IMP


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = tmp_path_factory.mktemp("forest") / "store"
    return tb.find(IMP, small_world(), seeds=3, store=store, rule=RULE_2019)


def lines(figure: dict[str, Any]) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace["mode"] == "lines+markers"]


def test_each_condition_is_drawn_with_its_bounds_margin_and_seeds(study: Study) -> None:
    forests = condition_forests(study)
    assert list(forests) == ["stop_test_accuracy", "stop_step"]
    findings = {finding.name: finding for finding in study.verdict.conditions}
    for figure in forests.values():
        go.Figure(plain(figure))
        names = figure["layout"]["yaxis"]["ticktext"]
        bands = [shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect"]
        for name, line, band in zip(names, lines(figure), bands, strict=True):
            finding = findings[name]
            assert line["x"] == [finding.low, finding.high]
            assert band["x0"] == -finding.margin
        dots = [t for t in figure["data"] if t["marker"]["symbol"] == "circle-open"]
        assert [len(trace["x"]) for trace in dots] == [3] * len(names)
        first, last = figure["layout"]["xaxis"]["range"]
        assert all(first < x < last for trace in figure["data"] for x in trace["x"])
    (stop,) = [t for t in forests["stop_step"]["data"] if "text" in t]
    assert "n = 3" in stop["text"][0] and "seed 2: " in stop["text"][0]


def test_seeds_average_to_the_estimate(study: Study) -> None:
    for figure in condition_forests(study).values():
        groups = [figure["data"][at : at + 3] for at in range(0, len(figure["data"]), 3)]
        for dots, _, middle in groups:
            assert sum(dots["x"]) / 3 == pytest.approx(middle["x"][0])


def test_every_density_has_a_line(study: Study) -> None:
    figure = density_forest(study)
    assert figure is not None
    rounds = [row for row in study.rows if row["arm"] == "ticket" and row["round"]]
    assert len(lines(figure)) == len(rounds)
    go.Figure(plain(figure))


def test_one_seed_has_dots_without_bounds_and_no_dense_arm_no_densities(tmp_path: Path) -> None:
    one = tb.find(IMP, small_world(), seeds=1, store=tmp_path / "s", rule=RULE_2019)
    assert [len(lines(of)) for of in condition_forests(one).values()] == [0, 0]
    without = replace(one, facts={**one.facts, "arms": ["reinit", "shuffle"]})
    assert density_forest(without) is None


def test_the_page_has_them(study: Study) -> None:
    page = render(study)
    shown = data_in(page)["forests"]
    assert list(shown) == ["stop_test_accuracy", "stop_step", "by density"]
    assert page.count('class="chart forest"') == 3
