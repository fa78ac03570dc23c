"""`tombola ls`: what there is."""

from typing import Annotated, Literal

from cyclopts import Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import JsonOption, StoreOption, store_to_read


@app.command(sort_key=5)
def ls(
    what: Annotated[
        Literal["recipes", "worlds", "probes", "rules", "arms"] | None,
        Parameter(help="Part of the catalogue. Default: what the store holds."),
    ] = None,
    /,
    *,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """List what the store holds, or the catalogue."""
    from tombola.lookup import catalogue
    from tombola.out.terminal import show_catalogue, show_holdings

    if what is not None:
        known = catalogue(what)
        entries = [{"name": name, "summary": summary} for name, summary in known.items()]
        return Answer(
            {"schema": 1, what: entries}, lambda console: show_catalogue(console, known), as_json
        )
    from tombola.out.listing import holdings

    document = holdings(store_to_read(store))
    return Answer(document, lambda console: show_holdings(console, document), as_json)
