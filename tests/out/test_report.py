"""The page as text, the file it is in, and the commands that write it."""

import ast
import errno
import json
import re
import webbrowser
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from report_studies import data_in, image_world, objects
from toy import small_world

import tombola as tb
from tombola.cli import main
from tombola.errors import CallError, WorkError
from tombola.lab.store import Store
from tombola.lab.study import Study, open_study
from tombola.lab.verdict import Matches, Rule
from tombola.out.report.page import render
from tombola.out.report.words import MEANING_OF_CHECKS
from tombola.pieces.dynamics import RigL
from tombola.recipes.imp import IMP
from tombola.world.optimiser import SGD

EVIL = '</script><script>alert("x")</script>&lt;'


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = tmp_path_factory.mktemp("report") / "store"
    return tb.find(IMP, image_world(), seeds=3, store=store)


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    return render(study)


def words_of(page: str) -> str:
    """What a page says to a reader without a browser, one space between words."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_verdict_comes_first_and_in_words(study: Study, page: str) -> None:
    words, verdict = words_of(page), study.verdict
    sentence = verdict.outcome.value
    assert (
        words.index(verdict.outcome.name) < words.index(sentence[1:]) < words.index("All numbers")
    )
    kept = next(r for r in study.rows if r["round"] == study.facts["setting"]["judged_round"])
    assert f"{kept['kept']} weights of {kept['total']}" in words
    assert "less than .0500 lower" in words
    for finding in verdict.conditions:
        assert finding.low is not None
        low = f"{'−' if finding.low < 0 else '+'}{abs(finding.low):.4f}".replace("0.", ".", 1)
        assert f"{finding.name} " in words and low in words


def test_the_table_has_every_row_metric_interval_and_n(study: Study, page: str) -> None:
    table = page.partition('<section id="table">')[2].partition("</section>")[0]
    rows = [words_of(row) for row in re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)][1:]
    assert len(rows) == len(study.rows)
    for said, row in zip(rows, study.rows, strict=True):
        assert said.startswith(f"{row['arm']} {row['round']}")
        assert f"{row['kept']} {row['n']}" in said
        for name, metric in row["metrics"].items():
            if name.endswith("accuracy"):
                three = [metric["mean"], metric["low"], metric["high"]]
                mean, low, high = (
                    f"{v:.4f}".replace("0.", ".", 1) if v < 1 else f"{v:.4f}" for v in three
                )
                assert f"{mean} [{low}, {high}]" in said
    spent = [t["spent"] for t in study.facts["trials"] if (t["arm"], t["round"]) == ("ticket", 2)]
    assert spent == [90, 90, 90] and rows[2].endswith(" 90")


def test_checks_are_explained(study: Study, page: str) -> None:
    words = words_of(page)
    for name, held in study.checks.items():
        assert f"{name} {'held' if held else 'did not apply'} {MEANING_OF_CHECKS[name]}" in words


def test_where_it_comes_from(study: Study, page: str) -> None:
    words = words_of(page)
    facts = study.facts["costs"][0]
    for text in (
        IMP.source,
        study.digest,
        facts["host"],
        facts["date"][:10],
        *(f"{name} {version}" for name, version in facts["versions"].items()),
        "30 steps of batches of 20",
        "60 examples to train on, 30 to validate, 30 to test",
        "no command repeats it",
        "seeds 0, 1, 2",
        "Adam(lr=0.01",
    ):
        assert text in words
    trained = f"{study.document['cost']['steps_trained']:,} 0"
    assert trained in words


def test_every_chart_and_picture_has_its_data(study: Study, page: str) -> None:
    data = data_in(page)
    assert list(data["density"]) == list(study.rows[0]["metrics"])
    assert list(data["curves"]) == ["loss", "accuracy"] and list(data["layers"]) == ["ticket"]
    assert [part["round"] for part in data["rounds"]] == [0, 1, 2, 3, 4]
    assert data["judged"] == study.facts["setting"]["judged_round"]
    assert data["pictures"]["layer"] == "0.weight"


def test_nothing_in_it_can_ask_the_outside(page: str) -> None:
    """No address, but in plotly.js, which the policy keeps from loading anything."""
    assert "default-src 'none'" in page
    own = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", page)
    assert not re.findall(r"""(?:src|href)\s*=|https?:|@import|url\(""", own)


def test_the_same_study_gives_the_same_bytes(study: Study, page: str) -> None:
    assert render(open_study(study.store, study.digest)) == page
    assert 2_000_000 < len(page.encode()) < 2_500_000


def test_equal_differences_are_not_shown_as_certain(study: Study, page: str) -> None:
    first, *others = study.document["verdict"]["conditions"]
    equal = {**first, "low": first["estimate"], "high": first["estimate"]}
    verdict = {**study.document["verdict"], "conditions": [equal, *others]}
    said = words_of(render(replace(study, document={**study.document, "verdict": verdict})))
    caveat = f"{first['name']} all differences are equal, so how far they spread is not known"
    assert caveat in said and caveat not in words_of(page)


def test_names_are_text_and_nothing_else(study: Study) -> None:
    document = {**study.document, "recipe": EVIL, "world": EVIL}
    rows = [{**row, "collapsed": [EVIL]} if row["arm"] == "ticket" else row for row in study.rows]
    about = json.loads(json.dumps(study.facts["about"]))
    about["layers"][0]["name"], about["arms"]["reinit"] = EVIL, EVIL
    trials = [
        {**trial, "kept": {EVIL if k == "0.weight" else k: n for k, n in trial["kept"].items()}}
        for trial in study.facts["trials"]
    ]
    facts = {**study.facts, "about": {**about, "input": None}, "trials": trials}
    page = render(replace(study, document={**document, "rows": rows}, facts=facts))
    assert page.count("<script") == 3 and "alert(" in page
    assert words_of(page).count(EVIL) > 5
    assert data_in(page)["layers"]["ticket"]


# -- odd studies -----------------------------------------------------------------------------


def test_one_seed_has_no_intervals_and_no_test(tmp_path) -> None:
    study = tb.find(IMP, small_world(), seeds=1, store=tmp_path / "s")
    words = words_of(render(study))
    assert "n = 1: there is no interval" in words and "needs two seeds" in words
    assert "One seed says nothing of the spread: train 3 in all." in words
    assert "What the first layer keeps" not in words


def test_a_study_that_diverged_says_so(tmp_path) -> None:
    world = small_world(optimiser=SGD(lr=1e30))
    study = tb.find(IMP, world, seeds=2, store=tmp_path / "s")
    words = words_of(render(study))
    assert "0 of 2" in words and "the others diverged" in words
    assert "A trial that diverged counts here as the worst value there is." in words


@pytest.mark.parametrize(
    "recipe",
    [replace(tb.recipes.RIGL, dynamics=RigL(every=10)), tb.recipes.EDGE_POPUP],
    ids=["rigl", "edge-popup"],
)
def test_studies_whose_masks_move_have_a_report(tmp_path, recipe) -> None:
    study = tb.find(recipe, image_world(), seeds=1, rule="2019", store=tmp_path / "s")
    page = render(study)
    words, data = words_of(page), data_in(page)
    assert "Matches dense: stop step less than 5 higher" in words
    assert "mask_nested did not apply" in words
    assert [part["round"] for part in data["pictures"]["networks"][0]["rounds"]] == [
        row["round"] for row in study.rows if row["arm"] == "ticket"
    ]


@dataclass(frozen=True, kw_only=True)
class LossAlone(tb.CrossEntropy):
    """Measures its loss and nothing else."""

    @property
    def metrics(self):
        return tuple(m for m in tb.CrossEntropy().metrics if m.name == "loss")


def test_a_world_that_measures_no_accuracy_has_a_report(tmp_path) -> None:
    condition = Matches(name="as-dense", metric="test_loss", margin=0.25, direction=-1)
    rule = Rule(name="by loss", conditions=(condition,), summary="test loss")
    world = small_world(objective=LossAlone())
    study = tb.find(IMP, world, seeds=2, arms=("dense",), rule=rule, store=tmp_path / "s")
    words = words_of(page := render(study))
    assert "test accuracy" not in words and "Validation accuracy" not in words
    assert "Matches dense: final test loss less than 0.2500 higher" in words
    assert list(data_in(page)["density"]) == ["test_loss", "stop_step", "stop_test_loss"]


def test_what_the_store_lost_is_said_in_its_place(tmp_path) -> None:
    study = tb.find(IMP, image_world(), seeds=1, arms=("dense", "reinit"), store=tmp_path / "s")
    whole = words_of(render(study))
    assert "No longer in the store" not in whole
    for path in objects(study.store):
        path.unlink()
    page = render(study)
    words, data = words_of(page), data_in(page)
    assert "No longer in the store: the validation curves of 9 trainings" in words
    assert data["curves"] == {} and data["density"]["test_accuracy"]["data"]
    assert {part["mask"] for part in data["pictures"]["networks"][0]["rounds"]} == {None}
    assert whole.partition("All numbers")[2].partition("Where this")[0] in words


# -- the file --------------------------------------------------------------------------------


def test_a_report_goes_beside_the_study_or_where_it_is_wanted(study: Study, tmp_path) -> None:
    beside = tb.report(study)
    assert beside == study.store.folder / "reports" / f"{study.digest}.html"
    other = tb.report(study, tmp_path / "new" / "page.html")
    assert other.read_bytes() == beside.read_bytes()
    assert [path.name for path in other.parent.iterdir()] == ["page.html"]


def test_a_file_that_cannot_be_written_is_refused(study: Study, tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CallError, match="is a folder; name a file in it"):
        tb.report(study, tmp_path)
    with pytest.raises(CallError, match=r"cannot be written: .*Name another file with --out"):
        tb.report(study, tmp_path / "file" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("fails", ["write_bytes", "replace"])
def test_a_write_that_fails_half_way_leaves_the_old_file(
    study: Study, tmp_path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    (tmp_path / "page.html").write_text("old")
    whole = Path.write_bytes

    def full(path: Path, content: Any) -> int:
        if fails == "write_bytes":
            whole(path, content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, fails, full)
        with pytest.raises(WorkError, match="the disk is full"):
            tb.report(study, tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "old"


def test_plotly_is_imported_in_one_place() -> None:
    root = Path(tb.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [path.name for name in names if name.partition(".")[0] == "plotly"]
    assert found == ["figures.py"]


# -- the commands ----------------------------------------------------------------------------

MINE = """
from report_studies import image_world
import tombola as tb

world = image_world
recipe = tb.recipes.IMP
"""


@pytest.fixture
def call(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("TOMBOLA_STORE", raising=False)
    name = f"mine_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(MINE)

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([part.replace("MINE", name) for part in argv])
        return (status, *capsys.readouterr())

    return run


FIND = ("find", "imp", "--on", "MINE:world", "--seeds", "2", "--jobs", "1")


def test_find_writes_the_report_and_says_where(call, tmp_path) -> None:
    status, out, err = call(*FIND)
    assert status == 0, err
    stored = open_study(Store(".tombola"), "latest")
    path = Path(".tombola/reports") / f"{stored.digest}.html"
    assert stored.document["report"] == str(path)
    assert f"report  {path}\n" in out
    page = path.read_text()
    command = re.search(r'<code id="command">(.*?)</code>', page)
    assert command is not None
    assert re.fullmatch(
        r"tombola find imp --on mine_\w+:world --seeds 2 --arms dense,ticket,reinit,shuffle",
        unescape(command[1]),
    )
    status, again, err = call(*FIND, "--json")
    assert json.loads(again)["report"] == str(path)


def test_report_writes_anew_and_does_not_make_a_study_the_latest(call) -> None:
    call(*FIND)
    first = open_study(Store(".tombola"), "latest").digest
    call(*FIND[:5], "3,", "--jobs", "1")
    latest = open_study(Store(".tombola"), "latest").digest
    assert latest != first
    path = Path(".tombola/reports") / f"{first}.html"
    before = path.read_bytes()
    path.unlink()
    status, out, _ = call("report", first[:10], "--json")
    document = json.loads(out)
    assert (status, document["schema"], document["study"]) == (0, 1, first)
    assert document["report"] == str(path) and document["bytes"] == len(before)
    assert path.read_bytes() == before
    assert open_study(Store(".tombola"), "latest").digest == latest
    status, out, _ = call("report", "latest", "--out", "page.html")
    assert (status, out) == (0, f"page.html, {Path('page.html').stat().st_size / 1e6:.1f} MB\n")


def test_a_wrong_call_writes_nothing(call, tmp_path) -> None:
    status, out, err = call("report", "latest")
    assert (status, out) == (2, "") and "there is no store .tombola" in err
    call(*FIND)
    before = sorted(tmp_path.rglob("*"))
    for argv, says in (
        (("report", "zz"), "no study begins with 'zz'"),
        (("report", "latest", "--out", "."), "--out . is a folder"),
        (("report", "latest", "--out", "/proc/none/page.html"), "Name another file with --out"),
    ):
        status, out, err = call(*argv)
        assert (status, out) == (2, "") and says in err and "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("opens", [True, False])
def test_open_shows_the_page(call, tmp_path, monkeypatch, opens: bool) -> None:
    call(*FIND)
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: shown.append(url) or opens)
    status, _, err = call("report", "latest", "--out", "page.html", "--open")
    assert status == 0 and shown == [(tmp_path / "page.html").as_uri()]
    assert ("open page.html in one" in err) != opens


@pytest.mark.parametrize("error", [CallError("no place"), KeyError("a bug")])
def test_a_report_that_fails_is_a_warning_of_find(call, monkeypatch, error: Exception) -> None:
    def fails(study: Study) -> Path:
        raise error

    monkeypatch.setattr("tombola.out.report.report", fails)
    status, out, err = call(*FIND, "--json")
    assert status == 0
    assert json.loads(out)["report"] is None
    assert "the study is stored, but its report could not be written" in err
    assert open_study(Store(".tombola"), "latest").document["report"] is None
