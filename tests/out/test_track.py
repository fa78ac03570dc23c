"""Trackers hold what the study holds: read back with the libraries' own readers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import small_world

import tombola as tb
from tombola.cli import main
from tombola.errors import CallError, TombolaError
from tombola.lab.engines.processes import can_fork
from tombola.lab.events import Ended, Event, Finished
from tombola.lab.store import Store
from tombola.lab.study import open_study
from tombola.out import sinks, track
from tombola.out.track import Records, TrackerWarning
from tombola.pieces.rewind import ToStep
from tombola.recipes.imp import IMP, IMP_CONTINUED, ONESHOT
from tombola.recipes.jobs import Trained

# -- reading back ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run as a tracker holds it. curves: tag -> steps and values; last: tag -> last value."""

    curves: dict[str, list[tuple[int, float]]]
    params: dict[str, Any]
    texts: dict[str, str]
    status: Any = None
    parent: str | None = None


def board(folder: Path) -> dict[str, Run]:
    """What TensorBoard reads in a folder, by run."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata

    found = {}
    events = EventMultiplexer(size_guidance={"scalars": 0, "tensors": 0})
    events.AddRunsFromDirectory(str(folder)).Reload()
    for name, kinds in events.Runs().items():
        run = events.GetAccumulator(name)
        curves = {tag: [(e.step, e.value) for e in run.Scalars(tag)] for tag in kinds["scalars"]}
        texts, params, status = {}, {}, None
        for tag in kinds["tensors"]:
            plugin = run.SummaryMetadata(tag).plugin_data
            if plugin.plugin_name == "text":
                texts[tag] = run.Tensors(tag)[0].tensor_proto.string_val[0].decode()
            elif tag.endswith("start_info"):
                held = metadata.parse_session_start_info_plugin_data(plugin.content).hparams
                params = {n: getattr(v, v.WhichOneof("kind")) for n, v in held.items()}
            else:
                status = metadata.parse_session_end_info_plugin_data(plugin.content).status
        found[name] = Run(curves, params, texts, status)
    return found


def runs(uri: str) -> dict[str, Run]:
    """What MLflow's client reads, by name; a name that is there twice is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        (experiment,) = [e for e in client.search_experiments() if e.name == "tombola"]
        held = client.search_runs([experiment.experiment_id], max_results=1_000)
        names = {run.info.run_id: run.info.run_name for run in held}
        assert len(set(names.values())) == len(held)
        return {
            run.info.run_name: Run(
                curves={
                    key: [
                        (m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)
                    ]
                    for key in run.data.metrics
                },
                params=run.data.params,
                texts=run.data.tags,
                status=run.info.status,
                parent=names.get(run.data.tags.get("mlflow.parentRunId", "")),
            )
            for run in held
        }


# -- what a study has ------------------------------------------------------------------------


def trainings(study: tb.Study) -> dict[str, tuple[dict[str, Any], Trained]]:
    """The run name of each trial, its record in the study, and its result in the store."""
    found = {}
    for trial in study.facts["trials"]:
        draw = f"-draw{trial['draw']}" if trial["draw"] else ""
        place = f"{trial['arm']}-round{trial['round']}-seed{trial['seed']}{draw}"
        found[f"{study.digest[:12]}/{place}"] = (trial, study.store.recall(trial["call"], Trained))
    return found


def curves(end: Trained) -> dict[str, list[tuple[int, float]]]:
    """Of a training: the validation curve, and the test metrics at its last step."""
    found: dict[str, list[tuple[int, float]]] = {}
    for reading in end.readings:
        for name in set(reading) - {"step"}:
            found.setdefault(f"validation/{name}", []).append((int(reading["step"]), reading[name]))
    return found | {n: [(end.step, v)] for n, v in end.metrics.items() if v is not None}


def means(study: tb.Study, arm: str) -> dict[str, list[tuple[int, float]]]:
    """Of an arm: metrics by the number of weights kept, from sparse to dense."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(study.rows, key=lambda row: row["kept"]):
        for name, metric in row["metrics"].items() if row["arm"] == arm else ():
            for part in ("mean", "low", "high"):
                if metric[part] is not None:
                    found.setdefault(f"{name}/{part}", []).append((row["kept"], metric[part]))
    return found


def rounded(curves: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """In single precision, as TensorBoard holds it."""
    return {
        tag: [(step, float(np.float32(value))) for step, value in points]
        for tag, points in curves.items()
    }


def arms_in(study: tb.Study) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in study.rows))


def check_board(study: tb.Study, folder: Path) -> None:
    """TensorBoard has all of a study, and nothing else."""
    held, prefix = board(folder), study.digest[:12]
    expected = trainings(study)
    tables = {f"{prefix}/table/{arm}": arm for arm in arms_in(study)}
    assert set(held) == {*expected, *tables, f"{prefix}/study"}
    for name, (trial, end) in expected.items():
        assert held[name].curves == rounded(curves(end))
        assert held[name].params["arm"] == trial["arm"]
        assert held[name].params["seed"] == trial["seed"]
        assert held[name].params["density"] == density(study, trial)
    for name, arm in tables.items():
        assert held[name].curves == rounded(means(study, arm))
    texts = held[f"{prefix}/study"].texts
    assert texts["verdict"] == str(study.verdict)
    assert texts["table"].count("\n") == len(study.rows) + 1
    assert f"- rule: {study.verdict.rule}" in texts["config"].splitlines()


def check_runs(study: tb.Study, uri: str) -> None:
    """MLflow has all of a study, and nothing else."""
    held, expected = runs(uri), trainings(study)
    parent = f"imp on toy {study.digest[:12]}"
    assert set(held) == {*expected, parent}
    assert {run.status for run in held.values()} == {"FINISHED"}
    for name, (trial, end) in expected.items():
        assert held[name].curves == curves(end)
        assert held[name].parent == parent
        assert held[name].params["arm"] == trial["arm"]
        assert held[name].params["seed"] == str(trial["seed"])
        assert float(held[name].params["density"]) == density(study, trial)
    arms = arms_in(study)
    assert held[parent].curves == {
        f"{arm}/{tag}": points for arm in arms for tag, points in means(study, arm).items()
    }
    verdict = study.document["verdict"]
    assert held[parent].texts["outcome"] == verdict["outcome"]
    assert held[parent].texts["verdict"] == str(study.verdict)
    assert held[parent].texts["check.arms_paired"] == "true"
    assert held[parent].params["seeds"] == json.dumps(study.document["seeds"])
    assert held[parent].params["about.world.steps"] == "40"


def density(study: tb.Study, trial: dict[str, Any]) -> float:
    place = ("arm", "round")
    (row,) = [r for r in study.rows if all(r[key] == trial[key] for key in place)]
    value: float = row["density"]
    return value


# -- a study with both trackers, in a process of its own -------------------------------------

SCRIPT = """
import sys
import threading
sys.path.insert(0, {tests!r})
from toy import small_world
import tombola as tb

world, arms = small_world(judged_density=0.7), ["dense", tb.recipes.controls.Reinit(draws=2)]
with tb.tensorboard("board") as one, tb.mlflow("sqlite:///runs.db") as other:
    tb.find(tb.recipes.IMP, world, seeds=2, arms=arms, jobs=2, store="store", watchers=[one, other])
heavy = {{"tensorboard", "mlflow", "sqlalchemy"}}
print(sorted(heavy & set(sys.modules)), threading.active_count())
"""


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, event files and a data base; no `if __name__`, warnings are errors."""
    folder = tmp_path_factory.mktemp("tracked")
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[] 1\n"  # nothing imported, no thread in the driver
    return folder


@pytest.fixture
def study(tracked: Path) -> tb.Study:
    return open_study(Store(tracked / "store"), "latest")


needs_fork = pytest.mark.skipif(not can_fork(), reason="processes need fork")


@needs_fork
def test_tensorboard_has_every_number_of_the_study(tracked: Path, study: tb.Study) -> None:
    check_board(study, tracked / "board")


@needs_fork
def test_mlflow_has_every_number_of_the_study(tracked: Path, study: tb.Study) -> None:
    check_runs(study, f"sqlite:///{tracked / 'runs.db'}")
    assert sorted(path.name for path in tracked.iterdir()) == ["board", "runs.db", "store"]


def again(store: Path, *trackers: track.Tracker, watchers: Any = ()) -> tb.Study:
    """The same study, with trackers."""
    world, arms = small_world(judged_density=0.7), ["dense", tb.recipes.controls.Reinit(draws=2)]
    watchers = [*trackers, *watchers]
    return tb.find(IMP, world, seeds=2, arms=arms, store=store, watchers=watchers)


@pytest.fixture(scope="module")
def at_home() -> Iterator[None]:
    """MLflow, where it is used in the test's own process, stays at home too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sinks.QUIET.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, at_home: None) -> Path:
    """A data base of MLflow's without a run: making one takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "runs.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sinks.MLflow(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    """The address of one of the test's own."""
    return f"sqlite:///{shutil.copy(empty, tmp_path)}"


class WriterHere:
    """Writes in the test's own process: another takes seconds to begin."""

    def __init__(self, kind: str, place: str) -> None:
        self._sink = sinks.SINKS[kind](place)

    def begin(self) -> None:
        return None

    def send(self, record: Mapping[str, Any]) -> bool:
        sinks.write(self._sink, json.loads(json.dumps(record)))
        return True

    def end(self) -> None:
        self._sink.close()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(track, "Writer", WriterHere)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the trackers' own
        yield


@needs_fork
@pytest.mark.usefixtures("here")
def test_one_attached_later_has_everything_and_nothing_twice(
    tracked: Path, study: tb.Study, tmp_path: Path, uri: str
) -> None:
    for _ in range(2):
        with tb.tensorboard(tmp_path / "later") as one, tb.mlflow(uri) as other:
            found = again(tracked / "store", one, other)
        assert found.document["cost"]["steps_trained"] == 0
        check_board(study, tmp_path / "later")
        check_runs(study, uri)
        files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("events*")}
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("events*")}


@pytest.mark.usefixtures("here")
def test_a_study_that_was_stopped_is_completed_by_the_next_call(tmp_path: Path, uri: str) -> None:
    finished: list[Finished] = []

    def stop(event: Event) -> None:
        if isinstance(event, Finished) and event.job.kind == "train":
            finished.append(event)
        if len(finished) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tb.mlflow(uri) as tracker:
        again(tmp_path / "store", tracker, watchers=[stop])
    held = runs(uri)
    (parent,) = [name for name in held if name.startswith("imp on toy")]
    assert held.pop(parent).status == "KILLED"
    logged = [run.curves["validation/loss"] for run in held.values()]
    for event in finished:
        assert curves(event.result)["validation/loss"] in logged
    with tb.mlflow(uri) as tracker:
        study = again(tmp_path / "store", tracker)
    check_runs(study, uri)


# -- which training is which -----------------------------------------------------------------


def sent(recipe: tb.Recipe, store: Path, **changes: Any) -> list[tuple[Event, dict[str, Any]]]:
    """What is sent of a study's trainings, with the event after which it is."""
    records, found = Records(), list[tuple[Event, dict[str, Any]]]()

    def watch(event: Event) -> None:
        found.extend((event, record) for record in records.of(event))

    world = small_world(**changes)
    tb.find(recipe, world, seeds=2, arms=["dense", "reinit"], store=store, watchers=[watch])
    assert [record["kind"] for _, record in (found[0], found[-1])] == ["study", "answer"]
    return found[1:-1]


def numbers(record: dict[str, Any]) -> Any:
    return record["readings"], record["metrics"]


@pytest.mark.parametrize(
    "recipe",
    [IMP, replace(IMP, rewind=ToStep(step=10)), IMP_CONTINUED, ONESHOT, tb.recipes.SNIP],
    ids=["imp", "imp-rewind", "imp-continued", "oneshot", "snip"],
)
def test_each_round_is_sent_once_with_its_own_training(recipe: tb.Recipe, tmp_path: Path) -> None:
    """However the loop goes: legs to rewind to, and trainings between the cuts, are not rounds."""
    found = sent(recipe, tmp_path)
    names = [sinks.name_of(record) for _, record in found]
    assert len(set(names)) == len(names)
    study = open_study(Store(tmp_path), "latest")
    assert set(names) == set(trainings(study))
    for (_, record), name in zip(found, names, strict=True):
        trial, end = trainings(study)[name]
        assert numbers(record) == (end.readings, end.metrics)
        assert record["density"] == density(study, trial)


@pytest.mark.parametrize(("recipe", "at_once"), [(IMP, True), (ONESHOT, False)])
def test_tickets_are_sent_as_soon_as_they_are_trained_where_that_can_be_told(
    recipe: tb.Recipe, at_once: bool, tmp_path: Path
) -> None:
    for event, record in sent(recipe, tmp_path):
        soon = at_once and record["arm"] == "ticket"
        assert isinstance(event, Finished if soon else Ended)


def test_a_diverged_training_is_sent_as_such(tmp_path: Path) -> None:
    found = sent(IMP, tmp_path, optimiser=tb.SGD(lr=1e30))
    assert {record["arm"] for _, record in found} == {"ticket", "dense"}
    for _, record in found:
        assert record["diverged_at"] is not None
        assert set(record["metrics"].values()) == {None}


# -- results that change, and trackers that fail ---------------------------------------------


def changed(record: dict[str, Any]) -> dict[str, Any]:
    """A record of the same run whose numbers came out otherwise."""
    return {**record, "metrics": {"test_accuracy": 0.25, "test_top 5%": 0.5}, "digest": "0" * 64}


def test_a_result_that_came_out_otherwise_takes_the_place_of_the_first(
    tmp_path: Path, uri: str
) -> None:
    opening, first, answer = made_up()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sink in (sinks.TensorBoard(str(tmp_path)), sinks.MLflow(uri)):
            for run, verdict in ((first, answer), (changed(first), {**answer, "digest": "1" * 64})):
                sink.study(opening)
                if isinstance(sink, sinks.MLflow):
                    assert runs(uri)["imp on toy abc"].status == "RUNNING"
                sink.run(run)
                sink.answer({**verdict, "says": run["digest"]})
                sink.close()
    name, parent = sinks.name_of(first), "imp on toy abc"
    held = board(tmp_path)
    assert held[name].curves["test_accuracy"] == [(40, 0.25)]
    assert held["abc/study"].texts["verdict"] == "0" * 64
    assert len(list(tmp_path.rglob("events*"))) == len(held) == 3
    logged = runs(uri)
    assert set(logged) == {name, parent}
    assert logged[name].curves["test_accuracy"] == [(40, 0.25)]
    assert logged[name].curves["test_top-5-"] == [(40, 0.5)]  # MLflow has no such signs in names
    assert (logged[name].parent, logged[parent].texts["verdict"]) == (parent, "0" * 64)
    assert logged[parent].curves == {"ticket/test_accuracy/mean": [(192, 0.5)]}


def made_up() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The three records of the smallest study."""
    place = {"study": "abc", "recipe": "imp", "world": "toy"}
    run = {
        **place,
        "arm": "ticket",
        "round": 0,
        "seed": 0,
        "draw": 0,
        "density": 1.0,
        "step": 40,
        "readings": [{"step": 40, "loss": 0.5}],
        "metrics": {"test_accuracy": 0.5, "test_loss": None},
        "diverged_at": None,
        "digest": "a" * 64,
    }
    metric = {"mean": 0.5, "low": None, "high": None, "values": [0.5]}
    row = {"arm": "ticket", "round": 0, "density": 1.0, "kept": 192, "n": 1}
    answer = {
        **place,
        "rows": [{**row, "metrics": {"test_accuracy": metric}}],
        "verdict": {"outcome": "UNDECIDED", "rule": "matching"},
        "checks": {"arms_paired": None},
        "config": {"seeds": [0]},
        "digest": "b" * 64,
    }
    return place, run, answer


@pytest.mark.parametrize(
    ("text", "package"),
    [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("mlflow", "sqlalchemy")],
)
def test_a_missing_package_is_said_before_anything_starts(
    text: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    find_spec = track.importlib.util.find_spec
    hidden: Any = lambda name: None if name == package else find_spec(name)  # noqa: E731
    monkeypatch.setattr(track.importlib.util, "find_spec", hidden)
    store = tmp_path / "store"
    status = main(["find", "imp", "--on", "digits-short", "--store", str(store), "--track", text])
    said = capsys.readouterr().err
    assert status == 2
    assert (
        f'needs the package {package}, which is not installed: pip install "tombola[{text}]"'
        in said
    )
    assert not store.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wandb", "want tensorboard[:DIR] or mlflow[:URI]"),
        ("mlflow:runs.db", "want a data base such as sqlite:///runs.db"),
    ],
)
def test_a_place_that_is_none_is_said_before_anything_starts(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    status = main(["find", "imp", "--on", "digits-short", "--store", str(store), "--track", text])
    assert (status, store.exists()) == (2, False)
    assert says in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CallError, match=r"tracker tensorboard at .*/file/in: .*Not a directory"):
        tb.tensorboard(tmp_path / "file" / "in").__enter__()
    with pytest.raises(TombolaError, match="put a `with` block around the study"):
        again(tmp_path / "store", tb.tensorboard(tmp_path / "board"))
    assert not (tmp_path / "store" / "studies").exists()


def test_a_tracker_that_fails_on_the_way_is_a_warning(tmp_path: Path) -> None:
    board, store = tmp_path / "board", tmp_path / "store"

    def spoil(event: Event) -> None:
        if isinstance(event, Finished) and board.is_dir():
            board.rmdir()
            board.touch()

    says = r"stopped: .*Not a directory.* is not affected"
    with pytest.warns(TrackerWarning, match=says), tb.tensorboard(board) as tracker:
        study = again(store, tracker, watchers=[spoil])
    assert study.document["cost"]["steps_trained"] > 0
    board.unlink()
    with tb.tensorboard(board) as tracker:
        again(store, tracker)
    check_board(study, board)


def test_a_tracker_whose_process_is_killed_is_a_warning(tmp_path: Path) -> None:
    told: list[str] = []
    tracker = tb.tensorboard(tmp_path / "board", warn=told.append)

    def kill(event: Event) -> None:
        if isinstance(event, Finished) and tracker._writer is not None:
            os.kill(tracker._writer._process.pid, signal.SIGKILL)

    with tracker:
        study = again(tmp_path / "store", tracker, watchers=[kill])
    assert study.document["cost"]["steps_trained"] > 0
    (text,) = told  # once, however much was not written
    assert text.startswith(
        f"tracker tensorboard at {tmp_path / 'board'} stopped: its process ended."
    )


def test_a_writer_ends_when_its_study_is_gone(tmp_path: Path) -> None:
    writer = track.Writer("tensorboard", str(tmp_path))
    assert writer.begin() is None
    with writer._process as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_the_command_line_tracks_into_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "track_mine.py").write_text("from toy import small_world as world\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    call = ["find", "imp", "--on", "track_mine:world", "--seeds", "2", "--arms", "dense,reinit"]
    assert main([*call, "--track", "tensorboard", "--quiet", "--json", "--store", "mine"]) == 0
    study = open_study(Store(tmp_path / "mine"), json.loads(capsys.readouterr().out)["study"])
    check_board(study, tmp_path / "mine" / "tensorboard")
