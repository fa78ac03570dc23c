"""`tombola bench`: how fast this machine trains, and from which density on sparsity pays."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import (
    WORLD_HELP,
    DataOption,
    JsonOption,
    StoreOption,
    begin_work,
    store_to_read,
)
from tombola.cli.probe import redrawn
from tombola.cli.studies import data_of
from tombola.errors import CallError

if TYPE_CHECKING:
    from tombola.lab.bench.measure import Measured


@app.command(sort_key=5)
def bench(
    what: Annotated[
        Literal["step", "study", "scaling", "machine", "memory", "overhead", "ship"],
        Parameter(
            help="step: a training step against density, and the break-even. study: 21 rounds, "
            "against dense and against what users write. scaling: seeds, rounds, width. machine: "
            "share of the matrix rate. memory: peak, against the least needed. overhead: what is "
            "spent beside steps and evaluations. ship: the network in every shipped format, by "
            "density and batch."
        ),
    ] = "step",
    *,
    on: Annotated[str | None, Parameter(help=f"{WORLD_HELP} Default: digits.")] = None,
    study: Annotated[
        str | None,
        Parameter(
            help="For ship: measure this study's trained tickets, and show them in its report."
        ),
    ] = None,
    steps: Annotated[
        int | None, Parameter(help="Steps of a training, where trainings are measured.")
    ] = None,
    jobs: Annotated[int, Parameter(help="Processes at once, for study and scaling.")] = 1,
    as_json: JsonOption = False,
    store: StoreOption = None,
    data: DataOption = None,
) -> Answer:
    """Measure this machine: ratios of one run, on one thread a process."""
    from tombola.lab.bench import BENCHES
    from tombola.lookup import find_world
    from tombola.out.benches import show_measured
    from tombola.out.ship.break_even import ship as measure_shipped

    for name, value in (("steps", steps), ("jobs", jobs)):
        if value is not None and value < 1:
            raise CallError(f"--{name} {value}: want 1 or more.")
    if steps is not None and what in ("step", "machine"):
        raise CallError(f"--steps: bench {what} measures single steps, not trainings.")
    if steps is not None and what == "ship":
        raise CallError("--steps: bench ship measures forward passes, not trainings.")
    if jobs != 1 and what not in ("study", "scaling"):
        raise CallError(f"--jobs: bench {what} works in one process.")
    if study is not None:
        if what != "ship":
            raise CallError(f"--study: bench {what} measures a world; name it --on.")
        measured = _of_study(study, on, store, data)
        return Answer(measured.as_json(), lambda console: show_measured(console, measured), as_json)
    given = {} if steps is None else {"steps": steps}
    if what in ("study", "scaling"):
        given["jobs"] = jobs
    world = find_world(on or "digits", data)
    measured = measure_shipped(world) if what == "ship" else BENCHES[what](world, **given)
    return Answer(measured.as_json(), lambda console: show_measured(console, measured), as_json)


def _of_study(name: str, on: str | None, store: Path | None, data: Path | None) -> "Measured":
    """A study's own tickets, measured and put into its report."""
    from tombola.lab.study import open_study
    from tombola.lookup import find_world
    from tombola.out.ship.break_even import ship_study

    begin_work()
    study = open_study(store_to_read(store), name)
    study.store.check_writable()
    on = on or study.facts["names"].get("world")
    if on is None:
        raise CallError(
            f"study {study.digest[:12]} was made in Python, so its world has no name here; give it "
            "with --on."
        )
    measured = ship_study(study, find_world(on, data_of(study, data)))
    redrawn(study)
    return measured
