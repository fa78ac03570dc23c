"""`tombola bench`: how fast this machine trains, and from which density on sparsity pays."""

from typing import Annotated, Literal

from cyclopts import Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import WORLD_HELP, DataOption, JsonOption
from tombola.errors import CallError


@app.command(sort_key=5)
def bench(
    what: Annotated[
        Literal["step", "study", "scaling", "machine", "memory", "overhead", "moving", "ship"],
        Parameter(
            help="step: a training step against density, and the break-even. study: 21 rounds, "
            "against dense and against what users write. scaling: seeds, rounds, width. machine: "
            "share of the matrix rate. memory: peak, against the least needed. overhead: what is "
            "spent beside steps and evaluations. moving: a step of sparse training, updates "
            "included. ship: the network in every shipped format, by "
            "density and batch."
        ),
    ] = "step",
    *,
    on: Annotated[str, Parameter(help=WORLD_HELP, show_default=True)] = "digits",
    steps: Annotated[
        int | None, Parameter(help="Steps of a training, where trainings are measured.")
    ] = None,
    jobs: Annotated[int, Parameter(help="Processes at once, for study and scaling.")] = 1,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> Answer:
    """Measure this machine: ratios of one run, on one thread a process."""
    from tombola.lab.bench import BENCHES
    from tombola.lab.bench.moving import EVERY
    from tombola.lookup import find_world
    from tombola.out.benches import show_measured
    from tombola.out.ship.break_even import ship as measure_shipped

    for name, value in (("steps", steps), ("jobs", jobs)):
        if value is not None and value < 1:
            raise CallError(f"--{name} {value}: want 1 or more.")
    if steps is not None and what in ("step", "machine"):
        raise CallError(f"--steps: bench {what} measures single steps, not trainings.")
    if steps is not None and what == "moving" and steps <= EVERY:
        raise CallError(f"--steps {steps}: bench moving has an update every {EVERY}; want more.")
    if steps is not None and what == "ship":
        raise CallError("--steps: bench ship measures forward passes, not trainings.")
    if jobs != 1 and what not in ("study", "scaling"):
        raise CallError(f"--jobs: bench {what} works in one process.")
    given = {} if steps is None else {"steps": steps}
    if what in ("study", "scaling"):
        given["jobs"] = jobs
    world = find_world(on, data)
    measured = measure_shipped(world) if what == "ship" else BENCHES[what](world, **given)
    return Answer(measured.as_json(), lambda console: show_measured(console, measured), as_json)
