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
        Literal[
            "step",
            "layers",
            "study",
            "scaling",
            "machine",
            "memory",
            "overhead",
            "moving",
            "ship",
            "auto",
        ],
        Parameter(
            help="step: a training step against density, and the break-even. layers: the same "
            "of each layer alone. study: 21 rounds, "
            "against dense and against what users write. scaling: seeds, rounds, width. machine: "
            "share of the matrix rate. memory: peak, against the least needed. overhead: what is "
            "spent beside steps and evaluations. moving: a step of sparse training, updates "
            "included. ship: the network in every shipped format, by "
            "density and batch. auto: the table of break-evens by which `auto` chooses."
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
    out: Annotated[
        Path | None, Parameter(help="File to write the table of `bench auto` to.")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    data: DataOption = None,
) -> Answer:
    """Measure this machine: ratios of one run, on one thread a process."""
    from tombola.lab.bench import BENCHES, auto
    from tombola.lookup import find_world
    from tombola.out.benches import show_measured, write_table
    from tombola.out.ship.break_even import ship as measure_shipped

    _check(what, on=on, study=study, steps=steps, jobs=jobs, out=out)
    if what == "auto":
        measured = auto()
    elif study is not None:
        measured = _of_study(study, on, store, data)
    else:
        world = find_world(on or "digits", data)
        given = {} if steps is None else {"steps": steps}
        if what in ("study", "scaling"):
            given["jobs"] = jobs
        measured = measure_shipped(world) if what == "ship" else BENCHES[what](world, **given)
    if out is not None:
        write_table(out, measured)
    return Answer(measured.as_json(), lambda console: show_measured(console, measured), as_json)


def _check(
    what: str,
    *,
    on: str | None,
    study: str | None,
    steps: int | None,
    jobs: int,
    out: Path | None,
) -> None:
    """Raise CallError for options that this measurement has no use for."""
    from tombola.lab.bench.moving import EVERY

    for name, value in (("steps", steps), ("jobs", jobs)):
        if value is not None and value < 1:
            raise CallError(f"--{name} {value}: want 1 or more.")
    if steps is not None and what not in ("study", "scaling", "memory", "overhead", "moving"):
        raise CallError(
            f"--steps: bench {what} measures {_MEASURED.get(what, 'single steps')}, not trainings."
        )
    if steps is not None and what == "moving" and steps <= EVERY:
        raise CallError(f"--steps {steps}: bench moving has an update every {EVERY}; want more.")
    if jobs != 1 and what not in ("study", "scaling"):
        raise CallError(f"--jobs: bench {what} works in one process.")
    if what == "auto" and on is not None:
        raise CallError(f"--on {on}: bench auto measures networks of its own.")
    if study is not None and what != "ship":
        raise CallError(f"--study: bench {what} measures a world; name it --on.")
    if out is not None and what != "auto":
        raise CallError(f"--out: bench {what} makes no table; bench auto does.")
    if out is not None and not out.parent.is_dir():
        raise CallError(f"--out {out}: there is no folder {out.parent}.")


_MEASURED = {"ship": "forward passes", "layers": "single layers", "auto": "single steps and layers"}


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
