"""`tombola find` and `tombola plan`."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tombola.cli.app import Answer, app, complain
from tombola.cli.options import (
    Asked,
    JobsOption,
    JsonOption,
    MinutesOption,
    RecipeName,
    StoreOption,
    question_and_plan,
    store_folder,
)
from tombola.cli.report import reported
from tombola.errors import CallError

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.lab.events import Watcher
    from tombola.lab.question import Question

ASK_ABOVE = 3600.0  # seconds of expected work that want --yes


@app.command(sort_key=0)
def find(
    recipe: RecipeName,
    /,
    asked: Asked,
    *,
    jobs: JobsOption = None,
    minutes: MinutesOption = None,
    yes: Annotated[bool, Parameter(help="Start even if it takes more than an hour.")] = False,
    track: Annotated[
        list[str] | None,
        Parameter(
            help="Log curves and table to tensorboard[:DIR] or mlflow[:URI] as well; may be "
            "repeated. Default places: in the store."
        ),
    ] = None,
    quiet: Annotated[bool, Parameter(help="Say nothing on stderr but errors.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Find tickets, train the controls, judge, report."""
    from tombola.lab.store import Store
    from tombola.lab.study import answer
    from tombola.out.amounts import duration
    from tombola.out.progress import watching
    from tombola.out.terminal import plan_lines, show_study
    from tombola.out.track import tracker_named

    folder = store_folder(store)
    trackers = [tracker_named(text, folder, warn=complain) for text in track or ()]
    asked, question, plan = question_and_plan(recipe, asked, jobs, store, minutes)
    if not quiet:
        print("\n".join(plan_lines(plan)), file=sys.stderr, flush=True)
    if plan["seconds"] > ASK_ABOVE and not yes:
        raise CallError(
            f"this would take about {duration(plan['seconds'])}; nothing was started. "
            "Add --yes to start it."
        )
    kept = Store(folder)
    kept.check_writable()
    with ExitStack() as opened:
        watchers: list[Watcher] = [opened.enter_context(tracker) for tracker in trackers]
        if not quiet:
            watchers.append(opened.enter_context(watching(sys.stderr)))
        study = answer(
            question,
            kept,
            jobs=plan["jobs"],
            watchers=watchers,
            names=asked.names(recipe),
        )
    study = reported(study)
    return Answer(dict(study.document), lambda console: show_study(console, study), as_json)


@app.command(sort_key=1)
def plan(
    recipe: RecipeName,
    /,
    asked: Asked,
    *,
    jobs: JobsOption = None,
    minutes: MinutesOption = None,
    power: Annotated[
        bool,
        Parameter(help="Say how many seeds the rule needs, from those of --seeds that are stored."),
    ] = False,
    margin: Annotated[
        float | None,
        Parameter(help="With --power: a margin other than the world's, as a fraction."),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Say what would be trained, what is stored already, and how long it would take."""
    from tombola.out.terminal import show_plan, show_power

    if margin is not None and not power:
        raise CallError(f"--margin {margin:g} is about --power, which was not asked for.")
    asked, question, document = question_and_plan(recipe, asked, jobs, store, minutes)
    if not power:
        return Answer(document, lambda console: show_plan(console, document), as_json)
    found = _power(question, asked.names(recipe), store, margin)

    def show(console: "Console") -> None:
        show_plan(console, document)
        show_power(console, found)

    return Answer({**document, "power": found}, show, as_json)


def _power(
    question: "Question", names: dict[str, Any], store: Path | None, margin: float | None
) -> dict[str, object]:
    """How many seeds the rule needs, from stored trials.

    Raises:
        VerdictError: too few are stored; says which command makes a pilot.
    """
    from tombola.lab.commands import find_command
    from tombola.lab.power import LEAST_PILOT, TooFewError, power_from
    from tombola.lab.store import Store

    try:
        kept = Store(store_folder(store), create=False)
        return power_from(question, kept, margin=margin).as_json()
    except TooFewError as error:
        seeds = question.seeds[: max(LEAST_PILOT, len(question.seeds))]
        pilot = find_command(names, seeds if len(seeds) >= LEAST_PILOT else range(LEAST_PILOT))
        raise TooFewError(f"{error} Make one with {pilot}") from error
