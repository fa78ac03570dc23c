"""`tombola report`: a study as one HTML page."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tombola.cli.app import Answer, app, complain
from tombola.cli.options import JsonOption, StoreOption, StudyName, begin_work, store_to_read

if TYPE_CHECKING:
    from tombola.lab.study import Study


@app.command(sort_key=4)
def report(
    study: StudyName,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="The file. Default: reports/<study>.html in the store.")
    ] = None,
    show: Annotated[bool, Parameter(name="--open", help="Show it in a browser.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Write one HTML page that shows a study; it works offline."""
    from tombola.lab.study import open_study
    from tombola.out.report import report as write
    from tombola.out.terminal import show_report

    begin_work()
    found = open_study(store_to_read(store), study)
    path = write(found, out)
    if show and not webbrowser.open(path.resolve().as_uri()):
        complain(f"no browser could be started here; open {path} in one.")
    document = {
        "schema": 1,
        "study": found.digest,
        "report": str(path),
        "bytes": path.stat().st_size,
    }
    return Answer(document, lambda console: show_report(console, document), as_json)


def reported(study: "Study") -> "Study":
    """The study with its report written; a warning where that fails, for its results are stored."""
    from tombola.lab.study import with_report
    from tombola.out.report import report as write

    try:
        return with_report(study, write(study))
    except Exception as error:  # whatever it is: hours of training must not look lost for a page
        complain(
            f"the study is stored, but its report could not be written ({error}). Write it with "
            f"`tombola report {study.digest[:12]} --out FILE`."
        )
        return study
