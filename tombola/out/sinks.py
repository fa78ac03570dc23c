"""Where a tracker writes: TensorBoard's event files, MLflow's runs. Runs in a process of its own.

That process is spawned, not forked, and nothing else of tombola is imported in it: the trackers'
threads, connections and locks are never alive in a process that forks jobs. `track` feeds it with
records, one line of JSON each. What is logged already is not logged twice: each record carries the
digest of its content, which is noted beside what is written, last of all.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, Protocol

Record = Mapping[str, Any]
Point = tuple[str, int, float]  # tag, step, value
NICENESS = 10  # trainings first


class Sink(Protocol):
    """Opened with the place to write to."""

    def study(self, record: Record) -> None:
        """A study begins, perhaps not for the first time."""
        ...

    def run(self, record: Record) -> None:
        """A training of it is finished, now or long ago."""
        ...

    def answer(self, record: Record) -> None:
        """The study has its table and its verdict."""
        ...

    def close(self) -> None:
        """There will be no more."""
        ...


# -- what is written -------------------------------------------------------------------------


def name_of(record: Record) -> str:
    """A run's name.

    >>> name_of({"study": "4a41c6fb8807e2", "arm": "reinit", "round": 5, "seed": 0, "draw": 0})
    '4a41c6fb8807/reinit-round5-seed0'
    """
    draw = f"-draw{record['draw']}" if record["draw"] else ""
    place = f"{safe(record['arm'])}-round{record['round']}-seed{record['seed']}"
    return f"{record['study'][:12]}/{place}{draw}"


def safe(name: str) -> str:
    """A name that can be part of a path, or of a metric's.

    >>> safe("a/b c")
    'a-b-c'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def about(record: Record) -> dict[str, Any]:
    """What a run is of."""
    names = ("recipe", "world", "arm", "round", "density", "seed", "draw")
    return {name: record[name] for name in names}


def curve_of(record: Record) -> Iterator[Point]:
    """The validation curve, and at the last step what was measured on the test split."""
    for reading in record["readings"]:
        for name, value in reading.items():
            if name != "step":
                yield f"validation/{name}", reading["step"], value
    for name, value in record["metrics"].items():
        if value is not None:
            yield name, record["step"], value


def means_of(row: Record) -> Iterator[Point]:
    """A row of the table; its step is the number of weights kept, which is density times total."""
    for name, metric in row["metrics"].items():
        for part in ("mean", "low", "high"):
            if metric[part] is not None:
                yield f"{name}/{part}", row["kept"], metric[part]


def table_of(record: Record) -> str:
    """The table in Markdown, each number with n and its interval."""
    names = [name for name in record["rows"][0]["metrics"] if name.startswith("test_")]
    lines = [f"| arm | round | density | kept | {' | '.join(names)} | n |"]
    lines.append("| --- " * (len(names) + 5) + "|")
    for row in record["rows"]:
        cells = [_with_interval(row["metrics"][name]) for name in names]
        place = f"| {row['arm']} | {row['round']} | {row['density']:.4f} | {row['kept']:,} |"
        lines.append(f"{place} {' | '.join(cells)} | {row['n']} |")
    return "\n".join(lines)


def _with_interval(metric: Record) -> str:
    if metric["mean"] is None:
        return "diverged"
    if metric["low"] is None:
        return f"{metric['mean']:.4f}"
    return f"{metric['mean']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]"


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested names joined by points; what is not a name is JSON, or text as it is.

    >>> flat({"world": {"steps": 200, "network": "LeNet"}, "seeds": [0, 1]})
    {'world.steps': '200', 'world.network': 'LeNet', 'seeds': '[0, 1]'}
    """
    found: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return found


# -- TensorBoard -----------------------------------------------------------------------------


class TensorBoard:
    """One event file for each run, in a folder named as the run, written whole and then renamed.

    Scalars are held in single precision: its default loader shows no other. The table is a run for
    each arm; config and verdict are texts.
    """

    def __init__(self, place: str) -> None:
        self._folder = Path(place)
        self._folder.mkdir(parents=True, exist_ok=True)

    def study(self, record: Record) -> None:
        return None

    def run(self, record: Record) -> None:
        session = _session(about(record), failed=record["diverged_at"] is not None)
        self._write(name_of(record), record["digest"], session, list(curve_of(record)))

    def answer(self, record: Record) -> None:
        study = record["study"][:12]
        for arm in dict.fromkeys(row["arm"] for row in record["rows"]):
            rows = [row for row in record["rows"] if row["arm"] == arm]
            points = [point for row in reversed(rows) for point in means_of(row)]
            self._write(f"{study}/table/{safe(arm)}", record["digest"], [], points)
        config = "\n".join(f"- {name}: {text}" for name, text in flat(record["config"]).items())
        texts = {"verdict": record["says"], "table": table_of(record), "config": config}
        self._write(
            f"{study}/study", record["digest"], [_text(tag, text) for tag, text in texts.items()]
        )

    def close(self) -> None:
        return None

    def _write(
        self, run: str, digest: str, values: list[Any], points: Sequence[Point] = ()
    ) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder, now, digest = self._folder / run, time.time(), digest[:16]
        folder.mkdir(parents=True, exist_ok=True)
        stale = list(folder.glob("events.out.tfevents.*.tombola.*"))
        if any(path.name.endswith(digest) for path in stale):
            return
        path = folder / f"events.out.tfevents.{now:.0f}.tombola.{digest}"
        events = [Event(wall_time=now, file_version="brain.Event:2")]
        events += [Event(wall_time=now, summary=Summary(value=[value])) for value in values]
        for tag, step, number in points:
            scalar = Summary.Value(tag=tag, simple_value=number)
            events.append(Event(wall_time=now, step=step, summary=Summary(value=[scalar])))
        unfinished = folder / f".unfinished.{os.getpid()}"
        with unfinished.open("wb") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())
        unfinished.replace(path)
        for other in stale:  # of a result that has been computed again, and came out otherwise
            other.unlink()


def _text(tag: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    metadata = SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name="text"), data_class=DATA_CLASS_TENSOR
    )
    tensor = TensorProto(string_val=[text.encode()], dtype="DT_STRING")
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def _session(settings: Mapping[str, Any], failed: bool) -> list[Any]:
    """What the HPARAMS page lists of a run."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import (
        HParamsPluginData,
        SessionEndInfo,
        SessionStartInfo,
    )

    start = SessionStartInfo(start_time_secs=time.time())
    for name, value in settings.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    end = SessionEndInfo(status=api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS)
    parts = {
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=end),
    }
    return [
        Summary.Value(
            tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
        )
        for tag, data in parts.items()
    ]


# -- MLflow ----------------------------------------------------------------------------------

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
MOST_METRICS, MOST_PARAMS = 900, 100  # in one call, and 1,000 of both
LONGEST_PARAM, LONGEST_TAG = 6_000, 8_000  # characters
STUDY, DIGEST, NOTE = "tombola.study", "tombola.digest", "mlflow.note.content"
PARENT = "mlflow.parentRunId"


class MLflow:
    """A run for the study, and below it one for each training.

    Experiment: $MLFLOW_EXPERIMENT_NAME, else tombola. The study's run has the table as metrics
    (step: weights kept), config as parameters and verdict as tags.
    """

    def __init__(self, place: str) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=place)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "tombola"
        experiment = self._client.get_experiment_by_name(name)
        self._experiment: str = (
            self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        self._runs: dict[str, Any] = {}  # by name
        self._open: dict[str, str] = {}  # study -> its run

    def study(self, record: Record) -> None:
        for run in self._found(record["study"]):
            self._runs[run.info.run_name] = run
        name = _study_name(record)
        if name in self._runs:
            run_id = self._runs[name].info.run_id
            self._client.update_run(run_id, status="RUNNING")
        else:
            run_id = self._create(name, record["study"], {})
        self._open[record["study"]] = run_id

    def _found(self, study: str) -> Iterator[Any]:
        """What is logged of a study."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{STUDY}` = '{study}'", page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create(self, name: str, study: str, tags: Mapping[str, str]) -> str:
        own = {STUDY: study, "mlflow.source.name": "tombola", **tags}
        run = self._client.create_run(self._experiment, run_name=name, tags=own)
        return str(run.info.run_id)

    def _logged(self, name: str, digest: str) -> bool:
        """Whether a run is there as it would be written now; one that is not is deleted."""
        run = self._runs.get(name)
        if run is None:
            return False
        if run.data.tags.get(DIGEST) == digest:
            return True
        self._client.delete_run(run.info.run_id)
        return False

    def run(self, record: Record) -> None:
        name, study = name_of(record), record["study"]
        if self._logged(name, record["digest"]):
            return
        run_id = self._create(name, study, {PARENT: self._open[study]})
        self._log(run_id, flat(about(record)), list(curve_of(record)))
        tags = {DIGEST: record["digest"]}
        if record["diverged_at"] is not None:
            tags["diverged_at"] = str(record["diverged_at"])
        self._finish(run_id, tags)

    def answer(self, record: Record) -> None:
        study, name, digest = record["study"], _study_name(record), record["digest"]
        earlier = self._runs.get(name)
        if earlier is None or earlier.data.tags.get(DIGEST) != digest:
            if earlier is not None and earlier.data.params:  # they cannot be changed
                self._open[study] = self._in_place_of(earlier, study, name)
            self._log(self._open[study], flat(record["config"]), list(_table(record)))
        verdict = record["verdict"]
        tags = {
            "outcome": verdict["outcome"],
            "rule": verdict["rule"],
            "verdict": record["says"],
            NOTE: f"{record['says']}\n\n{table_of(record)}",
            **{f"check.{check}": json.dumps(held) for check, held in record["checks"].items()},
        }
        self._finish(self._open.pop(study), {**tags, DIGEST: digest})

    def _in_place_of(self, earlier: Any, study: str, name: str) -> str:
        """A new run for a study; the runs of its trainings are put below it."""
        run_id = self._create(name, study, {})
        for run in self._found(study):
            if run.data.tags.get(PARENT) == earlier.info.run_id:
                self._client.set_tag(run.info.run_id, PARENT, run_id)
        self._client.delete_run(earlier.info.run_id)
        return run_id

    def _log(self, run_id: str, params: Mapping[str, str], points: Sequence[Point]) -> None:
        from mlflow.entities import Metric, Param

        now = round(1000 * time.time())
        named = [Param(name, text[:LONGEST_PARAM]) for name, text in params.items()]
        metrics = [Metric(_key(tag), value, now, step) for tag, step, value in points]
        while named or metrics:
            self._client.log_batch(
                run_id, params=named[:MOST_PARAMS], metrics=metrics[:MOST_METRICS]
            )
            named, metrics = named[MOST_PARAMS:], metrics[MOST_METRICS:]

    def _finish(self, run_id: str, tags: Mapping[str, str]) -> None:
        """The digest, which says that all is there, is written last."""
        from mlflow.entities import RunTag

        self._client.set_terminated(run_id, "FINISHED")
        named = [RunTag(name, text[:LONGEST_TAG]) for name, text in tags.items()]
        self._client.log_batch(run_id, tags=named)

    def close(self) -> None:
        for run_id in self._open.values():  # of studies that did not come to their end
            self._client.set_terminated(run_id, "KILLED")


def _study_name(record: Record) -> str:
    return f"{record['recipe']} on {record['world']} {record['study'][:12]}"


def _key(tag: str) -> str:
    """A tag as MLflow wants it, whatever a user has called a metric."""
    return "/".join(safe(part) for part in tag.split("/"))


def _table(record: Record) -> Iterator[Point]:
    for row in record["rows"]:
        for tag, step, value in means_of(row):
            yield f"{safe(row['arm'])}/{tag}", step, value


# -- the process -----------------------------------------------------------------------------

SINKS: dict[str, Callable[[str], Sink]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
READY, WRITTEN, DONE, FAILED = "ready", ".", "done", "failed "  # lines on stdout
END = "end"  # a line on stdin, in the place of a record


def serve(kind: str, place: str) -> int:
    """Write the records that come in on stdin. Says on stdout when it can begin, a mark for each
    record written, and why it had to stop. Returns the exit status."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a library's own prints
        lines: SimpleQueue[str | None] = SimpleQueue()
        # In a thread, so that whoever sends never waits for a slow disk or server.
        Thread(target=_read, args=(sys.stdin, lines), daemon=True).start()
        try:
            sink = SINKS[kind](place)
            print(READY, file=out)
            os.nice(NICENESS)
            for line in iter(lines.get, None):
                write(sink, json.loads(line))
                print(WRITTEN, file=out)
            sink.close()
            print(DONE, file=out)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            print(FAILED + reason[:500], file=out)
            return 1
    return 0


def write(sink: Sink, record: Record) -> None:
    """A record to where its kind goes."""
    {"study": sink.study, "run": sink.run, "answer": sink.answer}[record["kind"]](record)


def _read(stream: IO[str], lines: "SimpleQueue[str | None]") -> None:
    """Until the end is said, or whoever sends is gone."""
    for line in stream:
        if json.loads(line) == END:
            break
        lines.put(line)
    lines.put(None)
