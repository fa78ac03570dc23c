"""Puts a study's report together: one HTML file that needs nothing else, offline or on paper."""

import errno
import os
import secrets
import zlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from statistics import mean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from tombola.errors import CallError, WorkError
from tombola.lab.commands import find_command
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET, Finding
from tombola.out.amounts import duration, several
from tombola.out.executors import executors_of
from tombola.out.report.curves import Curves, curves_of
from tombola.out.report.figures import (
    DENSE,
    against_density,
    curve_figures,
    layer_figures,
    library,
    styles_of,
)
from tombola.out.report.forest import condition_forests, density_forest
from tombola.out.report.moves import costs_in, moves_in
from tombola.out.report.pictures import pictures_of
from tombola.out.report.probes import probes_of
from tombola.out.report.words import (
    MEANING_OF_CHECKS,
    amount,
    claim,
    difference,
    interval,
    state,
    titled,
)
from tombola.out.terminal import fraction

ALONG = "by density"
HERE = Path(__file__).parent


def report(study: Study, path: Path | str | None = None) -> Path:
    """Write a study's report: verdict, charts, what the first layer keeps, table, provenance.

    path: the file; by default `reports/<study>.html` in the study's store. Written under a
    temporary name and renamed, so that it is there whole or not at all.

    Returns the file's path.

    Raises:
        CallError: the file cannot be written there.
        WorkError: the disk is full.
    """
    target = report_path(study) if path is None else Path(path)
    if target.is_dir():
        raise CallError(f"--out {target} is a folder; name a file in it, such as report.html.")
    _write(target, render(study).encode())
    return target


def report_path(study: Study) -> Path:
    """Where a study's report lies unless another place is named."""
    return study.store.folder / "reports" / f"{study.digest}.html"


def _write(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkError(
                f"{target}: the disk is full. Make room and repeat the command, or name another "
                "file with --out."
            ) from error
        raise CallError(
            f"{target} cannot be written: {error}. Name another file with --out."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def render(study: Study) -> str:
    """The page as text. What the store has lost is said in its place."""
    arms = [TICKET, *study.facts["arms"]]
    curves = curves_of(study)
    layers, same = layer_figures(study)
    pictures, probes = pictures_of(study), probes_of(study)
    moves = moves_in(study)
    forests, along = condition_forests(study), density_forest(study)
    metrics, steps = list(study.rows[0]["metrics"]), study.facts["about"]["world"]["steps"]
    packed, plotly_source = _library()
    script = (HERE / "page.js").read_text()
    return _template().render(
        study=study,
        document=study.document,
        facts=study.facts,
        about=study.facts["about"],
        script=script,
        script_sources=f"{_csp_source(script)} {plotly_source}",
        style=(HERE / "page.css").read_text(),
        plotly=packed,
        dense=DENSE,
        arms=_arms(study, arms),
        verdict=_verdict(study),
        metrics=[name for name in metrics if name != "stop_step"],
        curves=curves,
        longer=_longer(curves, steps),
        lost=_lost(curves),
        forests=list(forests),
        along=along is not None,
        layer_arms=list(layers),
        same_layers=same,
        moves=moves,
        costs=costs_in(study),
        pictures=pictures,
        probes=probes,
        bench=study.store.read_bench(study.digest),
        table=_table(study, metrics),
        checks=[
            (name, held, MEANING_OF_CHECKS.get(name, "")) for name, held in study.checks.items()
        ],
        provenance=_provenance(study),
        command=find_command(study.facts["names"], study.document["seeds"]),
        data={
            "density": {metric: against_density(study, metric) for metric in metrics},
            "curves": {name: curve_figures(curves, arms, name, steps) for name in curves.metrics},
            "layers": layers,
            "forests": forests if along is None else {**forests, ALONG: along},
            "moves": moves["figures"] if moves else {},
            "pictures": pictures,
            "probes": [probe["figures"] for probe in probes],
            "rounds": _rounds(study),
            "judged": study.facts["setting"]["judged_round"],
        },
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fraction": fraction, "titled": titled, "several": several}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("page.html")


@cache
def _library() -> tuple[str, str]:
    """plotly.js, compressed as text, and what names it in the page's security policy."""
    source = library()
    return b64encode(zlib.compress(source.encode())).decode(), _csp_source(source)


def _csp_source(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


# -- the verdict -------------------------------------------------------------------------------


def _verdict(study: Study) -> dict[str, Any]:
    """The outcome in words, the numbers it is about, and each condition."""
    verdict, about = study.verdict, study.facts["about"]
    judged = study.facts["setting"]["judged_round"]
    sentence = verdict.outcome.value
    beside = {row["arm"] for row in study.rows if row["round"]}
    rows = [
        row
        for row in study.rows
        if row["round"] == judged or (row["round"] == 0 and row["arm"] not in beside)
    ]
    metrics = list(dict.fromkeys(condition["metric"] for condition in about["conditions"]))
    after = str(verdict).partition(str(verdict.conditions[-1]))[2].strip()
    return {
        "outcome": verdict.outcome.name,
        "sentence": f"{sentence[0].upper()}{sentence[1:]}.",
        "row": next(row for row in rows if row["arm"] == TICKET),
        "level": f"{100 * (1 - about['alpha']):.3g} %",
        "metrics": metrics,
        "compared": [
            {"arm": row["arm"], "round": row["round"], "cells": _cells(row, metrics), **_count(row)}
            for row in rows
        ],
        "conditions": [
            _condition(condition, finding)
            for condition, finding in zip(about["conditions"], verdict.conditions, strict=True)
        ],
        "remedy": after,
        "diverged": any(_diverged(row) for row in rows),
    }


def _condition(condition: Mapping[str, Any], finding: Finding) -> dict[str, Any]:
    metric = condition["metric"]
    return {
        "name": finding.name,
        "claim": claim(condition, finding.margin),
        "state": state(finding),
        "caveat": finding.caveat,
        "passed": finding.passed,
        "estimate": difference(metric, finding.estimate) if finding.estimate is not None else "–",
        "low": difference(metric, finding.low) if finding.low is not None else "–",
        "wanted": difference(metric, -finding.margin),
        "n": finding.n or "–",
        "drawn": _drawn(finding),
    }


def _drawn(finding: Finding) -> dict[str, float] | None:
    """Where the marks of a condition's line go, in percent of its width."""
    if finding.estimate is None or finding.low is None or finding.high is None:
        return None
    ends = [finding.low, finding.high, -finding.margin, 0.0]
    pad = 0.1 * (max(ends) - min(ends)) or 1.0
    least, width = min(ends) - pad, max(ends) - min(ends) + 2 * pad
    marks = {
        "low": finding.low,
        "high": finding.high,
        "estimate": finding.estimate,
        "wanted": -finding.margin,
        "zero": 0.0,
    }
    return {name: round(100 * (value - least) / width, 2) for name, value in marks.items()}


# -- the table ---------------------------------------------------------------------------------


def _table(study: Study, metrics: Sequence[str]) -> dict[str, Any]:
    """Every row of the study; the metrics that most look at come first."""
    first = [name for name in ("test_accuracy", "stop_step") if name in metrics]
    metrics = [*first, *(name for name in metrics if name not in first)]
    judged = study.facts["setting"]["judged_round"]
    spent: dict[tuple[str, int], list[int]] = {}
    for trial in study.facts["trials"]:
        spent.setdefault((trial["arm"], trial["round"]), []).append(trial["spent"])
    rows = [
        {
            "arm": row["arm"],
            "round": row["round"],
            "judged": row["round"] == judged,
            "begins": place == 0 or study.rows[place - 1]["arm"] != row["arm"],
            "density": fraction(row["density"]),
            "kept": f"{row['kept']:,}",
            "cells": _cells(row, metrics),
            "spent": _spent(spent.get((row["arm"], row["round"]), [])),
            **_count(row),
        }
        for place, row in enumerate(study.rows)
    ]
    collapsed = [row for row in study.rows if row.get("collapsed")]
    return {
        "metrics": metrics,
        "rows": rows,
        "diverged": any(_diverged(row) for row in study.rows),
        "collapsed": [(row["arm"], row["round"], row["collapsed"]) for row in collapsed],
    }


def _cells(row: Mapping[str, Any], metrics: Iterable[str]) -> list[tuple[str, str]]:
    """A mean and its interval for each metric."""
    found = [(name, row["metrics"][name]) for name in metrics]
    return [
        ("none", "")
        if of["mean"] is None
        else (amount(name, of["mean"]), interval(name, of["low"], of["high"]))
        for name, of in found
    ]


def _diverged(row: Mapping[str, Any]) -> int:
    return sum(value is None for value in row["metrics"]["stop_step"]["values"])


def _count(row: Mapping[str, Any]) -> dict[str, str]:
    finished = row["n"] - _diverged(row)
    return {"n": str(row["n"]) if finished == row["n"] else f"{finished} of {row['n']}"}


def _spent(steps: Sequence[int]) -> str:
    """Steps to find and train; all seeds of an arm spend the same."""
    return f"{mean(steps):,.0f}" if steps else "none"


# -- the rest ----------------------------------------------------------------------------------


def _arms(study: Study, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Each arm with what it is and how it is drawn."""
    summaries = {TICKET: "the subnetwork found, from its own start", **study.facts["about"]["arms"]}
    styles = styles_of(arms)
    return [
        {"name": arm, "summary": summaries[arm], "style": styles[arm], "dense": arm == DENSE}
        for arm in arms
    ]


def _rounds(study: Study) -> list[dict[str, Any]]:
    """Every round with its density, for the sliders."""
    found = {row["round"]: row for row in reversed(study.rows)}
    return [
        {"round": number, "density": fraction(found[number]["density"])} for number in sorted(found)
    ]


def _longer(curves: Curves, steps: int) -> list[str]:
    """Arms that are trained for more steps than the world's."""
    found = {place[0] for place, of in curves.of.items() if of["loss"].steps[-1] > steps}
    return sorted(found)


def _lost(curves: Curves) -> list[str]:
    return [f"{arm}, round {number}, seed {seed}" for arm, number, seed in curves.missing]


def _provenance(study: Study) -> dict[str, Any]:
    """Where the numbers come from: what was trained, with what, where and when."""
    facts, about = study.facts, study.facts["about"]
    calls = {trial["call"] for trial in facts["trials"]}
    contexts = [context for call in sorted(calls) if (context := study.store.context(call))]
    hosts = {
        f"{of['host']} ({of['machine']}, Python {of['python']}, torch {of['torch']})"
        for of in contexts
    }
    return {
        "world": about["world"],
        "hosts": sorted(hosts),
        "executors": executors_of(facts["trials"]),
        "computing": duration(sum(of["seconds"] for of in contexts)),
        "trainings": len(calls),
        "calls": [
            {**call, "date": call["date"][:16].replace("T", " "), "took": duration(call["seconds"])}
            for call in facts["costs"]
        ],
        "date": facts["costs"][-1]["date"][:10],
    }
