"""Commands on a finished study: `tombola judge` and `tombola verify`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import (
    Asked,
    DataOption,
    JsonOption,
    StoreOption,
    StudyName,
    begin_work,
    store_to_read,
)
from tombola.errors import CallError

if TYPE_CHECKING:
    from tombola.lab.question import Question
    from tombola.lab.study import Study


@app.command(sort_key=2)
def judge(
    study: StudyName,
    /,
    *others: Annotated[
        str, Parameter(help="More studies, for strict rules: of other learning rates and lengths.")
    ],
    rule: Annotated[
        str | None, Parameter(help="Another rule (tombola ls rules). Default: the study's own.")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Judge finished trials under another rule; trains nothing."""
    from tombola.lab.grid import judge_grid
    from tombola.lab.ladder import Ladder
    from tombola.lab.strict import Strict
    from tombola.lab.study import open_study
    from tombola.lookup import find_judge
    from tombola.out.terminal import show_ladder, show_strict, show_verdict

    begin_work()
    kept = store_to_read(store)
    studies = [open_study(kept, name) for name in (study, *others)]
    chosen = None if rule is None else find_judge(rule)
    if isinstance(chosen, Strict):
        prize = judge_grid(chosen, studies)
        digests = [one.digest for one in studies]
        document = {"schema": 1, "studies": digests, "verdict": prize.as_json()}
        return Answer(document, lambda console: show_strict(console, prize), as_json)
    if others:
        raise CallError(
            f"judge: got {1 + len(others)} studies; want one, or a strict rule, which compares "
            "several: --rule strict."
        )
    (found,) = studies
    if isinstance(chosen, Ladder):
        along = found.judge_along(chosen)
        document = {"schema": 1, "study": found.digest, "verdict": along.as_json()}
        return Answer(document, lambda console: show_ladder(console, along), as_json)
    verdict = found.verdict if chosen is None else found.judge(chosen)
    untested = any(not finding.n for finding in verdict.conditions)
    remedy = found.training(chosen) if untested and chosen else None
    document = {"schema": 1, "study": found.digest, "verdict": verdict.as_json()}
    return Answer(document, lambda console: show_verdict(console, verdict, remedy), as_json)


@app.command(sort_key=3)
def verify(
    study: StudyName,
    /,
    *,
    sample: Annotated[
        int, Parameter(help="How many stored results; 0 is all.", show_default=True)
    ] = 5,
    as_json: JsonOption = False,
    store: StoreOption = None,
    data: DataOption = None,
) -> Answer:
    """Compute a sample of a study's stored results again and compare, bit for bit."""
    from tombola.lab.study import open_study
    from tombola.lab.verify import verify as verified
    from tombola.out.terminal import show_verification

    begin_work()
    found = open_study(store_to_read(store), study)
    question = question_of(found, data)
    told = 0

    def tell(job: Any, equal: bool) -> None:
        nonlocal told
        told += 1
        print(f"{told}: {job.kind} {'equal' if equal else 'DIFFERS'}", file=sys.stderr, flush=True)

    document = verified(question, found.store, sample=sample, rows=found.rows, tell=tell)
    return Answer(
        document,
        lambda console: show_verification(console, document),
        as_json,
        status=1 if document["differences"] or document["rows_equal"] is False else 0,
    )


def question_of(study: "Study", data: Path | None) -> "Question":
    """The question a stored study answers, from the names it was asked by.

    Raises:
        CallError: it was not asked by names, or they now stand for something else.
    """
    names = study.facts["names"]
    if not names:
        raise CallError(
            f"study {study.digest[:12]} was made in Python, so its recipe and world have no names "
            "here. Ask there: tombola.lab.verify.verify(question, store), or tombola.probe(probe, "
            "study)."
        )
    asked = Asked(
        on=names["world"],
        seeds="".join(f"{seed}," for seed in study.document["seeds"]),
        arms=",".join(names["arms"]),
        rule=names["rule"],
        controls_at=names["controls_at"],
        draws=names["draws"],
        data=data_of(study, data),
    )
    question = asked.question(names["recipe"])
    if question.digest != study.digest:
        raise CallError(
            f"study {study.digest[:12]} was made of another {names['recipe']} on {names['world']} "
            "than these names now stand for: code or data has changed since. Nothing was computed; "
            "`tombola find` makes a study of what they stand for now."
        )
    return question


def data_of(study: "Study", given: Path | None) -> Path | None:
    """The folder of data sets given now, else the one given to `find`."""
    noted = study.facts["names"].get("data")
    return given if given is not None or noted is None else Path(noted)
