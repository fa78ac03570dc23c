"""What the commands print for people; every number with its n and interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from tombola.out.amounts import duration, several, size
from tombola.out.executors import executors_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tombola.lab.ladder import LadderVerdict
    from tombola.lab.strict import StrictVerdict
    from tombola.lab.study import Study
    from tombola.lab.verdict import Verdict

OUTCOME_STYLES = {
    "WINS": "bold green",
    "MATCHES": "bold cyan",
    "LOSES": "bold red",
    "UNDECIDED": "bold yellow",
}
PRIZE_STYLES = {
    "JACKPOT": "bold green",
    "SECONDARY": "bold cyan",
    "NONE": "bold red",
    "UNDECIDED": "bold yellow",
}


def console_on(stream: TextIO) -> "Console":
    """Plain text where the stream is no terminal; 80 columns there."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


# -- a study ---------------------------------------------------------------------------------


def show_study(console: "Console", study: "Study") -> None:
    """The table, the verdict and what it rests on."""
    document, judged = study.document, study.facts["setting"]["judged_round"]
    seeds = ", ".join(map(str, document["seeds"]))
    console.print(f"{document['recipe']} on {document['world']}, seeds {seeds}", style="bold")
    console.print()
    console.print(table_of(document["rows"], judged))
    console.print()
    for note in _notes(document["rows"], judged):
        console.print(note, style="dim")
    console.print()
    show_verdict(console, study.verdict)
    console.print("It is about the one split into training and test data that this world has.")
    console.print()
    console.print(
        grid(
            {
                "checks": checks_line(document["checks"]),
                "cost": f"{several(document['cost']['steps_trained'], 'step')} trained, "
                f"{document['cost']['steps_reused']:,} taken from the store, in "
                f"{duration(document['cost']['seconds'])}",
                "by": "; ".join(executors_of(study.facts["trials"])),
                "study": f"{study.digest[:12]} in {document['store']}",
            }
        )
    )
    if document["report"]:
        console.print(f"report  {document['report']}", soft_wrap=True)  # whole, to be copied


def table_of(rows: Iterable[Mapping[str, Any]], judged_round: int) -> "Table":
    """A row for each arm and round."""
    table = columns("arm", right=("round", "density", "kept", "test accuracy", "stop step", "n"))
    arm = None
    for row in rows:
        if arm not in (None, row["arm"]):
            table.add_row()
        arm, judged = row["arm"], row["round"] == judged_round
        table.add_row(
            arm,
            f"{row['round']}{'*' if judged else ' '}",
            fraction(row["density"]),
            f"{row['kept']:,}",
            mean_of(row["metrics"].get("test_accuracy"), fraction),
            mean_of(row["metrics"]["stop_step"], "{:,.0f}".format),
            _n(row),
            style="bold" if judged else "",
        )
    return table


def fraction(value: float) -> str:
    """Four places, without the zero in front.

    >>> fraction(.95833), fraction(1.0), fraction(-.002)
    ('.9583', '1.0000', '-.0020')
    """
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.4f}"


def mean_of(metric: Mapping[str, Any] | None, said: Callable[[float], str]) -> str:
    """A mean and its interval, or that there is none.

    >>> mean_of({"mean": .9583, "low": .948, "high": .9686}, fraction)
    '.9583 [.9480, .9686]'
    >>> mean_of({"mean": 190.0, "low": None, "high": None}, "{:.0f}".format)
    '190 (no interval)'
    """
    if metric is None or metric["mean"] is None:
        return "none"
    if metric["low"] is None:
        return f"{said(metric['mean'])} (no interval)"
    return f"{said(metric['mean'])} [{said(metric['low'])}, {said(metric['high'])}]"


def _n(row: Mapping[str, Any]) -> str:
    finished = row["n"] - _diverged(row)
    return str(row["n"]) if finished == row["n"] else f"{finished} of {row['n']}"


def _diverged(row: Mapping[str, Any]) -> int:
    return sum(value is None for value in row["metrics"]["stop_step"]["values"])


def _notes(rows: Sequence[Mapping[str, Any]], judged_round: int) -> list[str]:
    notes = []
    if any(row["round"] == judged_round for row in rows):
        notes.append("* where the verdict is given.")
    if rows[0]["n"] > 1:
        notes.append("In brackets: the 95 % interval of the mean over n seeds.")
    else:
        notes.append("n = 1: there is no interval.")
    if any(_diverged(row) for row in rows):
        notes.append(
            'n "2 of 3": the others diverged. The mean is over the rest; the verdict '
            "counts them as the worst there is."
        )
    for row in rows:
        if row.get("collapsed"):
            notes.append(
                f"{row['arm']}, round {row['round']}: nothing is left of "
                f"{', '.join(row['collapsed'])}."
            )
    return [" ".join(notes[:2]), *notes[2:]]


def show_verdict(console: "Console", verdict: "Verdict", remedy: str | None = None) -> None:
    """The outcome, then a line for each condition. remedy: what trains the arms it lacks."""
    from rich.table import Table
    from rich.text import Text

    outcome, _, rest = str(verdict).partition(". ")
    name = verdict.outcome.name
    console.print(Text.assemble((name, OUTCOME_STYLES[name]), outcome.removeprefix(name), "."))
    conditions = Table.grid(padding=(0, 1))
    for finding in verdict.conditions:
        conditions.add_row(" -", str(finding))
        rest = rest.replace(f" {finding}", "\n", 1)
    before, _, after = rest.partition("\n")
    console.print(before)
    console.print(conditions)
    if after.strip():
        console.print(after.strip())
    if remedy is not None:
        console.print(f"What was not tested is trained by\n{remedy}", soft_wrap=True)


def show_strict(console: "Console", verdict: "StrictVerdict") -> None:
    """The prize, then a line for each condition and each control."""
    from rich.table import Table
    from rich.text import Text

    rest = str(verdict).removeprefix(f"{verdict.outcome.name}: {verdict.outcome.value}. ")
    conditions = Table.grid(padding=(0, 1))
    for one in (*verdict.conditions, *verdict.controls):
        conditions.add_row(" -", str(one))
        rest = rest.replace(f" {one}", "\n", 1)
    before, _, after = rest.partition("\n")
    style = PRIZE_STYLES[verdict.outcome.name]
    console.print(Text.assemble((verdict.outcome.name, style), f": {verdict.outcome.value}."))
    console.print(before)
    console.print(conditions)
    if after.strip():
        console.print(after.strip())


def show_ladder(console: "Console", verdict: "LadderVerdict") -> None:
    """Where the claim holds, then a line for each density."""
    console.print(str(verdict))
    table = columns("", right=("round", "density", "p", "corrected"))
    for rung in verdict.rungs:
        state = {True: "holds", False: "not shown", None: "too few seeds"}[rung.holds]
        numbers = [rung.chance, rung.adjusted]
        said = ["-" if value is None else f"{value:.2g}" for value in numbers]
        table.add_row(state, str(rung.round), fraction(rung.density), *said)
    console.print(table)


def checks_line(checks: Mapping[str, bool | None]) -> str:
    """Those that held, and those that were not made.

    >>> checks_line({"count_exact": True, "mask_nested": None})
    'held: count_exact; did not apply: mask_nested'
    """
    held = [name for name, state in checks.items() if state]
    absent = [name for name, state in checks.items() if state is None]
    said = {"held": held, "did not apply": absent}
    return "; ".join(f"{state}: {', '.join(names)}" for state, names in said.items() if names)


# -- a plan ----------------------------------------------------------------------------------


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """What would be done, and what it would take."""
    trainings, steps = plan["trainings"], plan["steps"]
    todo = [
        f"{plan['recipe']} on {plan['world']}, {several(len(plan['seeds']), 'seed')}: "
        f"{several(trainings['to_run'], 'training')} to run, {trainings['stored']} in the store"
    ]
    if trainings["to_run"]:
        todo.append(
            f"{several(steps['to_train'], 'step')}, about {duration(plan['seconds'])} with "
            f"{several(plan['jobs'], 'job')} at once, about {size(plan['disk_bytes'])} of disk in "
            f"{plan['store']}"
        )
    return todo


def show_plan(console: "Console", plan: Mapping[str, Any]) -> None:
    """The same, and where the controls and the verdict stand."""
    for line in plan_lines(plan):
        console.print(line)
    console.print(
        f"arms {', '.join(plan['arms'])}; controls at round "
        f"{', '.join(map(str, plan['control_rounds']))}; verdict at round "
        f"{plan['judged_round']}"
    )
    console.print(f"study {plan['study'][:12]}")


def show_power(console: "Console", found: Mapping[str, Any]) -> None:
    """How many seeds a rule needs, condition by condition."""
    pilot = ", ".join(map(str, found["pilot"]))
    console.print(
        f"seeds that rule {found['rule']!r} needs at margin {found['margin']:g}, to pass every "
        f"condition with probability {found['power']:g}; from the stored seeds {pilot}:"
    )
    table = columns(
        "condition", right=("observed", "assumed", "sd", "wanted above", "seeds", "cautious")
    )
    for need in found["conditions"]:
        if not need["n"]:
            table.add_row(need["name"], "not trained")
            continue
        numbers = (need["observed"], need["truth"], need["sd"])
        wanted = f"{0.0 - need['margin']:g}"
        counts = (_seeds(need["seeds"]), _seeds(need["if_spread"]))
        table.add_row(need["name"], *(f"{value:.3g}" for value in numbers), wanted, *counts)
    table.add_row("all", *[""] * 4, _seeds(found["seeds"]), _seeds(found["if_spread"]))
    console.print(table)
    console.print(
        "cautious: if the true spreads are at their upper bounds at 0.8; few seeds leave them wide."
    )


def _seeds(number: int | None) -> str:
    """
    >>> _seeds(12), _seeds(None)
    ('12', 'over 1000')
    """
    return "over 1000" if number is None else str(number)


# -- the rest --------------------------------------------------------------------------------


def show_verification(console: "Console", found: Mapping[str, Any]) -> None:
    """How many results came out the same, and which did not."""
    console.print(
        f"{found['equal']} of {several(found['checked'], 'result')} computed again are "
        f"equal, bit for bit; {found['stored']} are stored, {found['missing']} missing."
    )
    for difference in found["differences"]:
        console.print(
            f"DIFFERS {difference['kind']} {difference['call'][:12]}: "
            f"{', '.join(difference['parts'])}",
            style="bold red",
        )
    if found["rows_equal"] is False:
        console.print(
            "DIFFERS the study's table is not what its stored results say", style="bold red"
        )


def show_holdings(console: "Console", holdings: Mapping[str, Any]) -> None:
    """The studies of a store, the latest last, and its size."""
    table = columns("study", "recipe", "world", "n", "outcome", "rule", "date")
    for study in holdings["studies"]:
        table.add_row(
            study["study"][:12],
            study["recipe"],
            study["world"],
            str(len(study["seeds"])),
            study["outcome"],
            study["rule"],
            study["date"][:16].replace("T", " "),
        )
    if holdings["studies"]:
        console.print(table)
        console.print()
    number, total = len(holdings["studies"]), sum(holdings["bytes"].values())
    console.print(
        f"{number} {'study' if number == 1 else 'studies'} in {holdings['store']}, {size(total)}"
    )


def show_catalogue(console: "Console", summaries: Mapping[str, str]) -> None:
    """Names and what they stand for."""
    console.print(grid(summaries))


def show_shipment(console: "Console", shipped: Mapping[str, Any]) -> None:
    """Where the file is, what is in it, and what was checked on it."""
    smaller = shipped.get("times_smaller")
    against = f", {smaller:g} times smaller than the dense float32 file" if smaller else ""
    if smaller and smaller < 1.0:
        against = ", no smaller than the dense float32 file"
    said = {"file": f"{shipped['path']}, {size(shipped['bytes'])}{against}"}
    if shipped.get("source"):
        said["page"] = f"{shipped['source']}, {size(shipped['source_bytes'])}"
    if shipped["density"] is not None:
        said["density"] = fraction(shipped["density"])
    said["checks"] = f"on the file as read back: {checks_line(shipped['checks'])}"
    if shipped["test_accuracy"] is not None:
        said["test accuracy"] = (
            f"{fraction(shipped['test_accuracy'])}, measured on the file; n = 1, no interval"
        )
    if shipped.get("accuracy_cost") is not None and shipped["precision"] != "float32":
        said["costs"] = f"{shipped['accuracy_cost']:+.4f} of test accuracy, against float32"
    if "outputs" in shipped:
        said["outputs"] = outputs_line(shipped["outputs"])
    for row in shipped.get("speed", ()):
        said[f"batch {row['batch']}"] = speed_line(row)
    console.print(grid({**said, "note": " ".join(shipped["notes"])}))


def outputs_line(outputs: Mapping[str, Any]) -> str:
    """How far outputs of the file are from the network's."""
    differ = f"differ from the network's by {outputs['difference']:.2g} of the largest"
    allowed = outputs["tolerance"]
    return differ if allowed is None else f"{differ}; {allowed:g} allowed"


def speed_line(row: Mapping[str, Any]) -> str:
    """Time of one batch, beside the dense network's.

    >>> speed_line({"microseconds": 8.0, "dense_microseconds": 40.0, "examples_per_second": 125000,
    ...             "ratio": 5.0, "low": 4.5, "high": 5.2, "n": 15})
    '8 us, dense 40 us: 5 times as fast [4.5, 5.2], n = 15 turns; 125,000 examples/s'
    """
    return (
        f"{row['microseconds']:g} us, dense {row['dense_microseconds']:g} us: {row['ratio']:g} "
        f"times as fast [{row['low']:g}, {row['high']:g}], n = {row['n']} turns; "
        f"{row['examples_per_second']:,.0f} examples/s"
    )


def show_report(console: "Console", document: Mapping[str, Any]) -> None:
    """Where the page is, and how large."""
    console.print(f"{document['report']}, {size(document['bytes'])}", soft_wrap=True)


def columns(*left: str, right: Sequence[str] = ()) -> "Table":
    """An empty table with named columns."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def grid(entries: Mapping[str, str]) -> "Table":
    """Names and a text for each, side by side."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    for name, text in entries.items():
        table.add_row(name, text)
    return table
