"""`tombola probe` from outside, and what the report shows of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from report_studies import data_in

from tombola.cli import main
from tombola.out.probing import split_columns

MINE = """
from dataclasses import replace
import torch
import tombola as tb
from tombola.testing import toy_world

print("loading")  # must not reach stdout


def world():
    return toy_world(steps=20, judged_density=0.6)


SHORT = tb.probes.Stability(name="short", steps=(0, 5), points=3, noises=("order", "both"))
AUGMENTED = tb.probes.Stability(noises=("augmentation",))
BEYOND = tb.probes.Stability(steps=(20,))
number = 3


def broken():
    raise RuntimeError("mine")
"""

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a module of theirs and a study."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "my_probes.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TOMBOLA_STORE", str(folder / "store"))
        find = ["find", "imp", "--on", "my_probes:world", "--seeds", "2", "--arms", "dense,reinit"]
        assert main([*find, "--quiet", "--json", "--jobs", "1"]) == 0
    return folder


@pytest.fixture
def say(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TOMBOLA_STORE", str(folder / "store"))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(words)
        return (status, *capsys.readouterr())

    return run


def test_a_probe_of_the_users_own_prints_one_document_and_stands_in_the_report(say: Say) -> None:
    status, out, err = say("probe", "my_probes:SHORT", "latest", "--json", "--jobs", "1")
    assert status == 0, err
    document = json.loads(out)
    assert list(document)[:7] == [
        "schema", "probe", "digest", "study", "recipe", "world", "seeds",
    ]  # fmt: skip
    assert "probe short of imp on toy, 2 seeds:" in err and "done in" in err
    for table in document["tables"]:
        for row in table["rows"]:
            assert row["n"] == 2
            for metric in row["metrics"].values():
                assert list(metric) == ["mean", "low", "high", "values"]
    page = Path(document["report"]).read_text()
    assert "Probe: short" in page and "Barriers between copies made at step k" in page
    (figures,) = data_in(page)["probes"]
    assert len(figures) == len(document["charts"])
    for figure, chart in zip(figures, document["charts"], strict=True):
        go.Figure(plain(figure))
        _draws(figure, chart, document)
    again = json.loads(say("probe", "my_probes:SHORT", "latest", "--json", "--quiet")[1])
    assert again["cost"]["steps_trained"] == 0 and again["tables"] == document["tables"]


def _draws(figure: dict[str, Any], chart: dict[str, Any], document: dict[str, Any]) -> None:
    """Every point of a chart is a row of its table, and none is left out."""
    (table,) = [table for table in document["tables"] if table["name"] == chart["table"]]
    rows = [row for row in table["rows"] if chart["where"].items() <= row.items()]
    points = {(x, y) for of in figure["data"] for x, y in zip(of["x"], of["y"], strict=True)}
    assert points == {(row[chart["x"]], row["metrics"][chart["y"]]["mean"]) for row in rows}
    assert len(figure["data"]) == len({row[chart["line"]] for row in rows})
    highs: dict[tuple[Any, float], list[float]] = {}
    for row in rows:
        of = row["metrics"][chart["y"]]
        highs.setdefault((row[chart["x"]], of["mean"]), []).append(of["high"])
    for trace in figure["data"]:
        assert all("n = 2" in text for text in trace["text"])
        bars = trace["error_y"]["array"]
        for x, y, bar in zip(trace["x"], trace["y"], bars, strict=True):
            assert any(y + bar == pytest.approx(high) for high in highs[x, y])


def plain(value: Any) -> Any:
    """A figure with a colour in the place of each style variable."""
    if isinstance(value, dict):
        return {name: plain(of) for name, of in value.items()}
    if isinstance(value, list):
        return [plain(of) for of in value]
    return "#777777" if isinstance(value, str) and value.startswith("var(") else value


def test_it_prints_tables_with_n_and_intervals(say: Say) -> None:
    status, out, err = say("probe", "overlap", "latest", "--quiet")
    assert status == 0 and err == ""
    assert "overlap of imp on toy, seeds 0, 1" in out
    assert "Overlap of the weights that are largest in each layer (share 0.2)" in out
    line = next(line for line in out.splitlines() if line.startswith("dense"))
    assert "1.000 [1.000, 1.000]" in line and line.split()[-1] == "2"
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("report"))
    assert "0 steps trained" in out


def test_ls_names_the_probes(say: Say) -> None:
    status, out, _ = say("ls", "probes", "--json")
    names = [entry["name"] for entry in json.loads(out)["probes"]]
    assert status == 0 and set(names) >= {"stability", "onset", "overlap", "effective"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stabilty", "latest"), "no probe 'stabilty'. Did you mean stability?"),
        (("my_probes:number", "latest"), "my_probes:number is an int; want a probe"),
        (("my_probes:broken", "latest"), 'raise RuntimeError("mine")'),
        (("my_probes:BEYOND", "latest"), "step 20 is not inside the training of 20 steps"),
        (("my_probes:AUGMENTED", "latest"), "neither augmentation nor dropout"),
        (("stability", "zzz"), "no study begins with 'zzz'"),
        (("stability", "latest", "--jobs", "0"), "jobs=0"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_writes_nothing(
    say: Say, folder: Path, words: tuple[str, ...], said: str
) -> None:
    before = sorted((folder / "store").rglob("*"))
    status, out, err = say("probe", *words)
    assert (status, out) == (2, "")
    assert said in err
    assert sorted((folder / "store").rglob("*")) == before


def test_columns_that_never_differ_are_said_once() -> None:
    assert split_columns([]) == ([], {})
    rows = [{"arm": "a", "step": k, "n": 2, "metrics": {}} for k in (0, 1)]
    assert split_columns(rows) == (["step"], {"arm": "a"})
