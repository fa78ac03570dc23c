"""Recompute a sample of a study's stored results and compare them, bit for bit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from tombola.errors import CallError, DamagedObjectError
from tombola.lab.question import Question
from tombola.lab.rows import rows_of
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.recipes.job import Job, NoDesk
from tombola.values.rng import stream


def verify(
    question: Question,
    store: Store,
    *,
    sample: int = 5,
    rows: Sequence[Mapping[str, Any]] | None = None,
    tell: Callable[[Job, bool], None] = lambda job, equal: None,
) -> dict[str, Any]:
    """The document that `tombola verify --json` prints.

    sample: how many stored results to compute again, drawn evenly from all; 0 means all. A result
    that differs is listed with the parts that do; a part that cannot be read back, too. rows: the
    study's table, which is made again from the stored results and compared.
    """
    if sample < 0:
        raise CallError(f"sample={sample}: want a number of results, or 0 for all.")
    runner = Runner(store, None)
    rounds = runner.drive(question.loops())
    stored = sorted(runner.tally.stored)
    order = torch.randperm(len(stored), generator=stream(0, "verify", question.digest)).tolist()
    chosen = [stored[place] for place in order][: sample or len(stored)]
    differences = []
    for key in chosen:
        job = runner.tally.stored[key]
        kept = store.recall(key, type(job.placeholder(lambda part: part)))
        parts = different(kept, job.run(NoDesk()))
        tell(job, not parts)
        if parts:
            differences.append({"call": key, "kind": job.kind, "parts": parts})
    return {
        "schema": 1,
        "study": question.digest,
        "stored": len(stored),
        "missing": len(runner.tally.run),
        "checked": len(chosen),
        "equal": len(chosen) - len(differences),
        "differences": differences,
        "rows_equal": None
        if rows is None or runner.tally.run
        else list(rows) == rows_of(question, rounds),
    }


def different(kept: Any, again: Any) -> list[str]:
    """The fields in which two results differ; handles are compared by content."""
    return [
        field.name
        for field in fields(kept)
        if _content(getattr(kept, field.name)) != _content(getattr(again, field.name))
    ]


def _content(part: Any) -> Any:
    """The digest of what a handle really holds; None where it cannot be read back."""
    if not hasattr(part, "load"):
        return part
    try:
        return part.load().digest
    except DamagedObjectError:
        return None
