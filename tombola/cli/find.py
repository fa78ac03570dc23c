"""`tombola find` and `tombola plan`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import (
    Asked,
    JobsOption,
    JsonOption,
    RecipeName,
    StoreOption,
    question_and_plan,
    store_folder,
)
from tombola.errors import CallError

ASK_ABOVE = 3600.0  # seconds of expected work that want --yes


@app.command(sort_key=0)
def find(
    recipe: RecipeName,
    /,
    asked: Asked,
    *,
    jobs: JobsOption = None,
    yes: Annotated[bool, Parameter(help="Start even if it takes more than an hour.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Find tickets, train the controls, judge, report."""
    from tombola.lab.store import Store
    from tombola.lab.study import answer
    from tombola.out.amounts import duration
    from tombola.out.progress import watching
    from tombola.out.terminal import plan_lines, show_study

    question, plan = question_and_plan(recipe, asked, jobs, store)
    print("\n".join(plan_lines(plan)), file=sys.stderr, flush=True)
    if plan["seconds"] > ASK_ABOVE and not yes:
        raise CallError(
            f"this would take about {duration(plan['seconds'])}; nothing was started. "
            "Add --yes to start it."
        )
    todo = {"steps": plan["steps"]["to_train"], "trainings": plan["trainings"]["to_run"]}
    with watching(sys.stderr, **todo) as watcher:
        study = answer(
            question,
            Store(store_folder(store)),
            jobs=plan["jobs"],
            watcher=watcher,
            names=asked.names(recipe),
        )
    return Answer(dict(study.document), lambda console: show_study(console, study), as_json)


@app.command(sort_key=1)
def plan(
    recipe: RecipeName,
    /,
    asked: Asked,
    *,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Say what would be trained, what is stored already, and how long it would take."""
    from tombola.out.terminal import show_plan

    _, document = question_and_plan(recipe, asked, jobs, store)
    return Answer(document, lambda console: show_plan(console, document), as_json)
