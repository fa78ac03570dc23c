"""The command line: names things, checks the whole call, works, prints.

Results go to stdout and everything else to stderr; while a command works, stdout is turned to
stderr, so that what the user's own code prints cannot end up in a JSON document. Imports of torch
and the like wait until a command needs them: `tombola --help` does not.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from cyclopts import App, CycloptsError, Parameter

from tombola import __version__
from tombola.errors import CallError, DamagedObjectError, StoreError, TombolaError
from tombola.out.frames import printed, users_frames, users_part

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.lab.question import Question
    from tombola.lab.store import Store
    from tombola.lab.study import Study
    from tombola.out.ship.cargo import Cargo
    from tombola.values.ticket import Ticket
    from tombola.world.world import World

ASK_ABOVE = 3600.0  # seconds of expected work that want --yes
INTERRUPTED = 130

app = App(
    name="tombola",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    help="Finds, judges and ships winning lottery tickets: sparse subnetworks that train as well "
    "as the whole.",
    help_epilogue="To see it work, in half a minute: tombola find imp --on digits-short",
    default_parameter=Parameter(negative="", show_default=False),
)


@dataclass(frozen=True)
class Answer:
    """What a command has to say: a document, and how to show it to people."""

    document: dict[str, Any]
    show: "Callable[[Console], None]"
    as_json: bool
    status: int = 0

    def write(self, stream: TextIO) -> None:
        if self.as_json:
            print(json.dumps(self.document, indent=1, allow_nan=False), file=stream)
            return
        from tombola.out.terminal import console_on

        self.show(console_on(stream))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (see design: 0, 1, 2 or 130)."""
    from rich.console import Console

    stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            answer = app(
                argv,
                console=Console(file=stdout),
                exit_on_error=False,
                result_action="return_value",
            )
        if isinstance(answer, Answer):
            answer.write(stdout)
            stdout.flush()
            return answer.status
        return 0
    except CycloptsError:
        return CallError.exit_status  # its message is printed
    except TombolaError as error:
        complain(explained(error))
        return error.exit_status
    except KeyboardInterrupt:
        complain("interrupted. Finished work is kept; repeat the command to go on.")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read stdout has gone
        return 1
    except Exception as error:
        frames = users_part(printed(error))
        if frames is None:
            raise
        complain(f"an error in your code; finished work is kept.\n{frames}")
        return 1


def complain(text: str) -> None:
    print(f"tombola: {text.rstrip()}", file=sys.stderr)


def explained(error: TombolaError) -> str:
    """The message, with the user's own frames where they led to it."""
    text = str(error)
    text = users_part(text) or text  # an error in a job's process brings its traceback as text
    if isinstance(error, DamagedObjectError):
        text += " Repeat the `tombola find` that made it."
    frames = users_frames(error)
    return f"{text}\nwhere:\n{frames}" if frames else text


# -- options ---------------------------------------------------------------------------------

StoreOption = Annotated[
    Path | None, Parameter(help="Folder of finished work. Default: $TOMBOLA_STORE, else .tombola.")
]
DataOption = Annotated[
    Path | None,
    Parameter(help="Folder of data sets. Default: $TOMBOLA_DATA, else the user's cache."),
]
JsonOption = Annotated[
    bool, Parameter(name="--json", help="Print one JSON document and nothing else.")
]
RecipeName = Annotated[
    str,
    Parameter(
        help="A recipe of the catalogue (tombola ls recipes), or yours as package.module:NAME."
    ),
]
StudyName = Annotated[str, Parameter(help="The first digits of a study, or latest.")]
WORLD_HELP = "A world of the catalogue (tombola ls worlds), or yours as package.module:NAME."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options that say what a study is."""

    on: Annotated[str, Parameter(help=WORLD_HELP)]
    seeds: Annotated[
        str,
        Parameter(help="How many, or which: 0,3,7 (and 4, for seed 4 alone).", show_default=True),
    ] = "5"
    arms: Annotated[
        str,
        Parameter(
            help="What to train and compare: controls, and other recipes (tombola ls arms).",
            show_default=True,
        ),
    ] = "dense,ticket,reinit,shuffle"
    rule: Annotated[
        str, Parameter(help="What it takes to win (tombola ls rules).", show_default=True)
    ] = "matching"
    controls_at: Annotated[
        Literal["judged", "all"],
        Parameter(
            help="Train controls at the judged round and two others, or at all.", show_default=True
        ),
    ] = "judged"
    draws: Annotated[
        int, Parameter(help="Draws of reinit for each seed; they are averaged.", show_default=True)
    ] = 1
    data: DataOption = None

    def question(self, recipe: str) -> "Question":
        """The study asked for, checked; nothing is written.

        Raises:
            TombolaError: anything of it is wrong.
        """
        from tombola.lab.question import Question, seeds_of
        from tombola.lab.study import arms_of
        from tombola.lookup import find_arms, find_recipe, find_rule, find_world

        found, rule = find_recipe(recipe), find_rule(self.rule)
        arms = find_arms(self.arms.split(","), self.draws)
        seeds = seeds_of(seeds_in(self.seeds))
        return Question(
            recipe=found,
            world=find_world(self.on, self.data),
            seeds=seeds,
            arms=arms_of(arms),
            rule=rule,
            controls_at=self.controls_at,
        )

    def names(self, recipe: str) -> dict[str, Any]:
        """What `verify` needs to ask the same again."""
        return {
            "recipe": recipe,
            "world": self.on,
            "rule": self.rule,
            "arms": self.arms.split(","),
            "controls_at": self.controls_at,
            "draws": self.draws,
            "data": None if self.data is None else str(self.data.resolve()),
        }


def seeds_in(text: str) -> int | list[int]:
    """A number of seeds, or the seeds themselves.

    >>> seeds_in("5"), seeds_in("0,3,7"), seeds_in("4,")
    (5, [0, 3, 7], [4])
    """
    try:
        if "," not in text:
            return int(text)
        return [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise CallError(
            f"--seeds {text}: want a number of seeds such as 5, or a list of them such as 0,3,7."
        ) from None


def cores() -> int:
    """How many processes this one may run side by side."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def begin_work() -> None:
    """One torch thread, set before anything is computed, since jobs are forked; and what lies in
    the current directory can be named."""
    import torch

    torch.set_num_threads(1)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def store_folder(given: Path | None) -> Path:
    return given or Path(os.environ.get("TOMBOLA_STORE") or ".tombola")


def store_to_read(given: Path | None) -> "Store":
    """A store that must be there already."""
    from tombola.lab.store import Store

    folder = store_folder(given)
    if not folder.exists():
        raise StoreError(
            f"there is no store {folder}. `tombola find` makes one; name another with "
            "--store or $TOMBOLA_STORE."
        )
    return Store(folder, create=False)


def question_and_plan(
    recipe: str, asked: Asked, jobs: int | None, store: Path | None
) -> "tuple[Question, dict[str, Any]]":
    """The whole call, checked, and what it would take. Nothing is written."""
    from tombola.lab.plan import plan
    from tombola.lab.store import Store

    jobs = cores() if jobs is None else jobs
    if jobs < 1:
        raise CallError(f"--jobs {jobs}: want a number of processes, 1 or more.")
    begin_work()
    try:
        question = asked.question(recipe)
        return question, plan(question, Store(store_folder(store), create=False), jobs=jobs)
    except TombolaError:
        raise
    except Exception as error:
        frames = users_part(printed(error))
        if frames is None:
            raise
        raise CallError(f"an error in your code; nothing was started.\n{frames}") from error


# -- commands --------------------------------------------------------------------------------

JobsOption = Annotated[int | None, Parameter(help="Processes at once. Default: one for each core.")]


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


@app.command(sort_key=2)
def judge(
    study: StudyName,
    /,
    *,
    rule: Annotated[
        str | None, Parameter(help="Another rule (tombola ls rules). Default: the study's own.")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> Answer:
    """Judge finished trials under another rule; trains nothing."""
    from tombola.lab.study import open_study
    from tombola.lookup import find_rule
    from tombola.out.terminal import show_verdict

    begin_work()
    found = open_study(store_to_read(store), study)
    verdict = found.verdict if rule is None else found.judge(find_rule(rule))
    document = {"schema": 1, "study": found.digest, "verdict": verdict.as_json()}
    return Answer(document, lambda console: show_verdict(console, verdict), as_json)


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
            "here. Verify it there: tombola.lab.verify.verify(question, store)."
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


@app.command(sort_key=4)
def ship(
    ticket: Annotated[str, Parameter(help="A ticket file, or STUDY[:arm[:round[:seed]]].")],
    /,
    *,
    to: Annotated[
        Literal["safetensors", "ticket"],
        Parameter(
            help="safetensors: the trained network's state dict; ticket: its start and mask."
        ),
    ],
    out: Annotated[Path, Parameter(help="Folder to write to.", show_default=True)] = Path("."),
    on: Annotated[
        str | None,
        Parameter(help="The world to train a ticket file on, or to measure a study's network on."),
    ] = None,
    untrained: Annotated[bool, Parameter(help="Ship the network as it starts.")] = False,
    seed: Annotated[
        int | None,
        Parameter(help="Of the training of a ticket file. Default: the one it was found with."),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    data: DataOption = None,
) -> Answer:
    """Write a model for use elsewhere, checked on the exported file itself."""
    from tombola.lab.study import open_study
    from tombola.lookup import find_world
    from tombola.out.ship.cargo import at_start, stem_in, stem_of, trained_in, which_of
    from tombola.out.ship.files import check_folder
    from tombola.out.ship.safetensors import ship_network
    from tombola.out.ship.ticket import ship_ticket
    from tombola.out.terminal import show_shipment
    from tombola.values.ticket import Ticket

    begin_work()
    check_folder(out)
    source, study = which_of(ticket), None
    if isinstance(source, Path):
        start, stem = Ticket.load(source), stem_of(source)
        world = None if on is None else find_world(on, data)
    else:
        if seed is not None:
            raise CallError("--seed is for ticket files; name a study's as STUDY:arm:round:seed.")
        study = open_study(store_to_read(store), source.study)
        start = study.ticket(**source.choice())
        stem = stem_in(study, study.trial(**source.choice()))
        name = on or study.facts["names"].get("world")
        world = None if name is None else find_world(name, data_of(study, data))
    if world is not None:
        start.build(world.model)  # or it does not fit, and nothing is written
    if to == "ticket":
        document = ship_ticket(start, stem, out)
    elif untrained:
        document = ship_network(at_start(start, stem), world, out)
    elif study is not None and not isinstance(source, Path):
        document = ship_network(trained_in(study, source), world, out)
    elif world is not None:
        cargo = trained_from(start, stem, world, seed, store)
        document = ship_network(cargo, world, out)
    else:
        raise CallError(
            f"{ticket} has no trained weights. Train them with --on WORLD, or ship the "
            "start with --untrained."
        )
    return Answer(document, lambda console: show_shipment(console, document), as_json)


def trained_from(
    start: "Ticket", stem: str, world: "World", seed: int | None, store: Path | None
) -> "Cargo":
    """A ticket file's network, trained now."""
    from tombola.lab.store import Store
    from tombola.out.progress import watching
    from tombola.out.ship.cargo import trained_now, training_of

    job = training_of(start, world, seed)
    kept = Store(store_folder(store))
    kept.check_writable()
    with watching(sys.stderr, steps=job.steps, trainings=1) as watcher:
        return trained_now(start, job, stem, kept, watcher)


@app.command(sort_key=5)
def ls(
    what: Annotated[
        Literal["recipes", "worlds", "rules", "arms"] | None,
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


if __name__ == "__main__":
    sys.exit(main())
