"""`tombola gc`: make room in a store."""

import sys
from typing import Annotated

from cyclopts import Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import JsonOption, StoreOption, store_to_read
from tombola.errors import CallError

UNUSED_FOR = 60.0  # minutes


@app.command(sort_key=6)
def gc(
    *,
    drop: Annotated[
        list[str] | None,
        Parameter(
            help="Studies to give up, with what they alone need: their first digits, or latest.",
            consume_multiple=True,
        ),
    ] = None,
    unused_for: Annotated[
        float,
        Parameter(
            help="Minutes for which anything else was not used. 0 takes all, except from commands "
            "at work on this machine.",
            show_default=True,
        ),
    ] = UNUSED_FOR,
    dry_run: Annotated[bool, Parameter(help="Say what could go; take nothing away.")] = False,
    yes: Annotated[bool, Parameter(help="Do not ask.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Free space: what no study needs, and studies given up; asks first."""
    from tombola.lab.gc import droppable, free, sweep
    from tombola.lab.study import one_of
    from tombola.out.sweeping import account, show_account, show_freed
    from tombola.out.terminal import console_on

    if not 0 <= unused_for < float("inf"):
        raise CallError(f"--unused-for {unused_for:g}: want a number of minutes, 0 or more.")
    kept = store_to_read(store)
    known = droppable(kept)
    given_up = {one_of(known, prefix) for prefix in drop or ()}
    found = sweep(kept, given_up, unused_for=unused_for * 60)
    document = account(kept, found)
    if dry_run or not found.going:
        return Answer(document, lambda console: show_account(console, document), as_json)
    if not yes:
        show_account(console_on(sys.stderr), document)
        if not agreed():
            return Answer(document, lambda console: show_freed(console, document), as_json)
    document["freed_bytes"] = free(kept, found)
    return Answer(document, lambda console: show_freed(console, document), as_json)


def agreed() -> bool:
    """Ask whether to go on.

    Raises:
        CallError: nobody is there to be asked.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise CallError("nothing was freed, since nobody can be asked here. Add --yes to free it.")
    try:
        return input("Free it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
