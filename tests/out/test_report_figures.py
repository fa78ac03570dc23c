"""Charts as data: accepted by plotly, with the study's numbers, names escaped."""

import json
import math
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest
from report_studies import image_world, plain
from toy import small_world

import tombola as tb
from tombola.lab.study import Study
from tombola.lab.verdict import Matches, Rule
from tombola.out.report.curves import curves_of
from tombola.out.report.figures import (
    against_density,
    curve_figures,
    layer_figures,
    library,
    styles_of,
)
from tombola.recipes.imp import IMP, ONESHOT

EVIL = replace(ONESHOT, name="<b>a & b</b>")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    arms = ("dense", "reinit", "shuffle", EVIL)
    store = tmp_path_factory.mktemp("figures") / "store"
    return tb.find(IMP, small_world(), seeds=3, arms=arms, store=store)


def arms_of(study: Study) -> list[str]:
    return ["ticket", *study.facts["arms"]]


def figures_of(study: Study) -> list[dict[str, Any]]:
    """Every chart of a study, each round of the curves as one."""
    curves, arms = curves_of(study), arms_of(study)
    found = [against_density(study, metric) for metric in study.rows[0]["metrics"]]
    for metric in curves.metrics:
        figure = curve_figures(curves, arms, metric, 40)
        found += [{"layout": figure["layout"], "data": of} for of in figure["frames"].values()]
    return [*found, *layer_figures(study)[0].values()]


def test_plotly_accepts_every_chart(study: Study) -> None:
    """plotly's own classes know every property and refuse a wrong one."""
    for figure in figures_of(study):
        go.Figure(plain(figure))
        assert figure["data"]
    with pytest.raises(ValueError, match="markerr"):
        go.Figure({"data": [{"type": "scatter", "markerr": {}}]})


def test_a_network_that_keeps_nothing_has_a_place_of_its_own(study: Study) -> None:
    rows = [dict(row) for row in study.rows]
    least = min(row["density"] for row in rows)
    last = next(row for row in rows if row["arm"] == "ticket" and row["density"] == least)
    last |= {"density": 0.0, "kept": 0}
    empty = replace(study, document={**study.document, "rows": rows})
    figure = against_density(empty, "test_accuracy")
    go.Figure(plain(figure))
    axis = figure["layout"]["xaxis"]
    (drawn,) = [v for v, t in zip(axis["tickvals"], axis["ticktext"], strict=True) if t == "0"]
    (trace,) = [t for t in figure["data"] if t["legendgroup"] == "ticket"]
    positive = min(row["density"] for row in rows if row["density"])
    assert drawn == pytest.approx(positive / 3)
    assert min(trace["x"]) == pytest.approx(drawn, rel=0.05)
    assert math.log10(drawn) > axis["range"][1]


def test_points_are_means_with_their_intervals(study: Study) -> None:
    figure = against_density(study, "test_accuracy")
    for arm in arms_of(study):
        if arm == "dense":
            continue
        (trace,) = [t for t in figure["data"] if t["legendgroup"] == arm]
        rows = [row for row in study.rows if row["arm"] == arm]
        assert len(trace["x"]) == len(rows)
        for place, row in enumerate(rows):
            metric = row["metrics"]["test_accuracy"]
            assert trace["x"][place] == pytest.approx(row["density"], rel=0.05)
            assert trace["y"][place] == metric["mean"]
            half = trace["error_y"]["array"][place]
            ends = (trace["y"][place] - half, trace["y"][place] + half)
            assert ends == pytest.approx((metric["low"], metric["high"]))
            label = trace["text"][place]
            assert f"{row['kept']:,} of {row['total']:,} weights" in label and "n = 3" in label
            for seed, value in enumerate(metric["values"]):
                said = f"{value:.4f}".removeprefix("0")
                assert f"seed {seed}: {said}" in label


def test_arms_of_one_density_stand_side_by_side(study: Study) -> None:
    figure = against_density(study, "test_accuracy")
    number = study.facts["setting"]["judged_round"]
    places = [
        x
        for trace in figure["data"]
        for x, text in zip(trace["x"], trace.get("text", ()), strict=False)
        if f"round {number}<br>" in text
    ]
    assert len(places) == len(set(places)) == len(arms_of(study)) - 1
    assert max(places) / min(places) < 1.1


def test_dense_is_a_band_at_every_density_and_dense_is_at_the_left(study: Study) -> None:
    figure = against_density(study, "test_accuracy")
    dense = next(row for row in study.rows if row["arm"] == "dense")["metrics"]["test_accuracy"]
    band, line = (trace for trace in figure["data"] if trace["legendgroup"] == "dense")
    assert set(band["y"]) == {dense["low"], dense["high"]} and band["fill"] == "toself"
    assert set(line["y"]) == {dense["mean"]}
    assert "<b>dense</b>, round 0" in line["hovertemplate"] and "n = 3" in line["hovertemplate"]
    axis = figure["layout"]["xaxis"]
    densities = [row["density"] for row in study.rows]
    assert axis["type"] == "log"
    assert axis["range"][0] > 0.0 > math.log10(min(densities)) > axis["range"][1]
    assert min(band["x"]) < min(densities) and max(band["x"]) > 1.0
    judged = study.verdict.density
    assert figure["layout"]["shapes"][0]["x0"] == judged
    assert figure["layout"]["annotations"][0]["x"] == math.log10(judged)


def test_without_a_dense_arm_the_band_is_the_tickets_first_round(tmp_path) -> None:
    matches = Matches(name="as-reinit", metric="test_accuracy", arm="reinit")
    rule = Rule(name="no dense", conditions=(matches,), summary="none")
    study = tb.find(IMP, small_world(), seeds=2, arms=("reinit",), rule=rule, store=tmp_path / "s")
    figure = against_density(study, "test_loss")
    _, line = (trace for trace in figure["data"] if trace["legendgroup"] == "dense")
    assert study.rows[0]["round"] == 0
    assert set(line["y"]) == {study.rows[0]["metrics"]["test_loss"]["mean"]}
    assert {t["legendgroup"] for t in figure["data"]} == {"ticket", "reinit", "dense"}


def test_a_diverged_seed_is_said_at_its_point(tmp_path, study: Study) -> None:
    rows = json.loads(json.dumps(study.document["rows"]))
    of = rows[0]["metrics"]["test_accuracy"]
    of["values"][1] = None
    hurt = replace(study, document={**study.document, "rows": rows})
    labels = [t["text"][0] for t in against_density(hurt, "test_accuracy")["data"] if "text" in t]
    (label,) = [text for text in labels if "diverged" in text]
    assert "n = 2 of 3, the rest diverged" in label and "seed 1: diverged" in label


def test_curves_of_a_round_have_every_arm_trained_there_and_dense(study: Study) -> None:
    curves = curves_of(study)
    figure = curve_figures(curves, arms_of(study), "loss", 40)
    assert list(figure["frames"]) == [
        str(row["round"]) for row in study.rows if row["arm"] == "ticket"
    ]
    for number, traces in figure["frames"].items():
        there = {row["arm"] for row in study.rows if row["round"] == int(number)} | {"dense"}
        assert {trace["legendgroup"] for trace in traces} == there
        for trace in traces:
            place = (trace["legendgroup"], 0 if trace["legendgroup"] == "dense" else int(number))
            curve = curves.of[place]["loss"]
            if "text" in trace:
                assert trace["y"] == pytest.approx(curve.mean, rel=1e-4)
                assert all(", n = 3" in text for text in trace["text"])
            else:
                assert trace["y"] == pytest.approx([*curve.low, *curve.high[::-1]], rel=1e-4)


def test_curves_have_the_same_axes_in_every_round_that_hold_all_late_means(study: Study) -> None:
    curves = curves_of(study)
    axis = curve_figures(curves, arms_of(study), "accuracy", 40)["layout"]["yaxis"]
    means = [v for of in curves.of.values() for v in of["accuracy"].mean]
    assert axis["range"][0] <= min(means) and axis["range"][1] >= max(means)


def test_cells_hold_what_the_masks_keep(study: Study) -> None:
    figures, same = layer_figures(study)
    assert same == ["reinit", "shuffle", EVIL.name]
    (heat,) = figures["ticket"]["data"]
    names = [layer["name"] for layer in study.facts["about"]["layers"]]
    assert heat["x"] == [row["round"] for row in study.rows if row["arm"] == "ticket"]
    for column, number in enumerate(heat["x"]):
        mask = study.ticket(round=number).mask
        for place, layer in enumerate(study.facts["about"]["layers"]):
            total = math.prod(layer["shape"])
            kept = int(mask.of(layer["name"], layer["shape"]).sum())
            assert heat["z"][place][column] == pytest.approx(math.log10(kept / total))
            assert f"{kept:,} of {total:,} weights" in heat["hovertext"][place][column]
            assert "3 seeds" in heat["hovertext"][place][column]
    assert figures["ticket"]["layout"]["yaxis"]["ticktext"] == names


def test_counts_that_differ_between_seeds_have_an_interval(tmp_path) -> None:
    recipe = replace(
        tb.recipes.SNIP,
        rule=tb.ByScore(score=tb.Saliency(batch_size=60)),
        schedule=tb.Densities(values=(0.02,)),
    )
    world = small_world(judged_density=0.02)
    study = tb.find(recipe, world, seeds=4, arms=("dense",), store=tmp_path / "s")
    (heat,) = layer_figures(study)[0]["ticket"]["data"]
    texts = [text for row in heat["hovertext"] for text in row]
    assert any("n = 4" in text and "[" in text for text in texts)
    row = next(r for r in study.rows if r["arm"] == "ticket")
    assert row["collapsed"]
    empty = [t["kept"] for t in study.facts["trials"] if t["arm"] == "ticket"]
    for place, layer in enumerate(study.facts["about"]["layers"]):
        none = all(kept[layer["name"]] == 0 for kept in empty)
        assert (heat["text"][place][0] == "0") == none


def test_a_whole_network_and_a_thinner_one_with_other_layers_have_no_cells(study: Study) -> None:
    trials = [dict(trial) for trial in study.facts["trials"]]
    for trial in trials:
        if trial["arm"] == "reinit":
            trial["kept"] = {
                layer["name"]: math.prod(layer["shape"]) for layer in study.facts["about"]["layers"]
            }
        if trial["arm"] == "shuffle":
            trial["kept"] = {"other": 3}
    changed = replace(study, facts={**study.facts, "trials": trials})
    figures, same = layer_figures(changed)
    assert not {"reinit", "shuffle", "dense"} & {*figures, *same}


def test_names_cannot_be_markup(study: Study) -> None:
    shown = []
    for figure in figures_of(study):
        for trace in figure["data"]:
            if trace.get("legendgroup") == EVIL.name and "text" in trace:
                shown.append(trace["hovertemplate"] + trace["text"][0])
    assert shown
    for text in shown:
        assert "<b>&lt;b&gt;a &amp; b&lt;/b&gt;</b>, round" in text and "<b>a" not in text


def test_no_two_arms_look_alike() -> None:
    styles = styles_of(["ticket", "dense", *map(str, range(10))])
    assert len({(s.colour, s.symbol) for s in styles.values()}) == 12
    first = [styles[arm] for arm in ("ticket", "dense", "0", "1", "2", "3", "4")]
    assert len({s.colour for s in first}) == len({s.symbol for s in first}) == 7


def test_image_studies_have_the_same_charts(tmp_path) -> None:
    study = tb.find(IMP, image_world(), seeds=1, store=tmp_path / "s")
    for figure in figures_of(study):
        go.Figure(plain(figure))
    labels = [t["text"][0] for t in against_density(study, "test_accuracy")["data"] if "text" in t]
    assert all("(no interval)" in label and "n = 1" in label for label in labels)


def test_the_library_is_plotly() -> None:
    assert "plotly.js v" in library()[:200]
