"""`tombola probe`: an analysis of a finished study."""

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tombola.cli.app import Answer, app, complain
from tombola.cli.find import ASK_ABOVE
from tombola.cli.options import (
    DataOption,
    JobsOption,
    JsonOption,
    StoreOption,
    StudyName,
    begin_work,
    cores,
    store_to_read,
)
from tombola.cli.studies import question_of
from tombola.errors import CallError

if TYPE_CHECKING:
    from tombola.lab.events import Watcher
    from tombola.lab.study import Study


@app.command(sort_key=3)
def probe(
    probe: Annotated[
        str,
        Parameter(
            help="A probe of the catalogue (tombola ls probes), or yours as package.module:NAME."
        ),
    ],
    study: StudyName,
    /,
    *,
    jobs: JobsOption = None,
    yes: Annotated[bool, Parameter(help="Start even if it takes more than an hour.")] = False,
    quiet: Annotated[bool, Parameter(help="Say nothing on stderr but errors.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    data: DataOption = None,
) -> Answer:
    """Analyse a study's tickets; trains what the analysis needs, and adds it to the report."""
    from tombola.lab.probe.probing import measure, plan_probe
    from tombola.lab.study import open_study
    from tombola.lookup import find_probe
    from tombola.out.amounts import duration
    from tombola.out.probing import show_probe
    from tombola.out.progress import watching
    from tombola.out.terminal import plan_lines

    begin_work()
    found = open_study(store_to_read(store), study)
    named = find_probe(probe)
    question = question_of(found, data)
    plan = plan_probe(named, question, found.store, jobs=cores() if jobs is None else jobs)
    if not quiet:
        print("\n".join(plan_lines(plan)), file=sys.stderr, flush=True)
    if plan["seconds"] > ASK_ABOVE and not yes:
        raise CallError(
            f"this would take about {duration(plan['seconds'])}; nothing was started. "
            "Add --yes to start it."
        )
    with ExitStack() as opened:
        watchers: list[Watcher] = []
        if not quiet:
            watchers.append(opened.enter_context(watching(sys.stderr)))
        probed = measure(named, question, found.store, jobs=plan["jobs"], watchers=watchers)
    document = {**probed.document, "report": redrawn(found)}
    return Answer(document, lambda console: show_probe(console, document), as_json)


def redrawn(study: "Study") -> str | None:
    """Where the study's report is, written anew with what its probes found; None with a warning
    where that fails, for what was found is stored."""
    from tombola.out.report import report as write

    try:
        return str(write(study))
    except Exception as error:  # whatever it is: the work must not look lost for a page
        complain(
            f"what was found is stored, but the report could not be written ({error}). Write it "
            f"with `tombola report {study.digest[:12]} --out FILE`."
        )
        return None
