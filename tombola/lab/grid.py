"""Studies of one recipe at several learning rates and lengths: the table of the strict definition.

Every cell is an ordinary study of a world that differs from the others in learning rate or length
alone, so that all of them share a store, and each has its own report.
"""

from collections.abc import Sequence
from typing import Any

from tombola.errors import CallError, VerdictError
from tombola.lab.commands import training_command
from tombola.lab.rows import samples_of
from tombola.lab.strict import NEEDED, Cell, Strict, StrictVerdict, judge_strictly
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET

STEP = 10**0.5  # between learning rates that are proposed


def judge_grid(
    rule: Strict, studies: Sequence[Study], *, steps: int | None = None
) -> StrictVerdict:
    """The strict definition over finished studies; trains nothing.

    steps: the length at which tickets are judged; by default the longest with every arm.

    Raises:
        VerdictError: an arm or a learning rate is missing; says which command trains it.
        CallError: studies that differ in more than learning rate and length.
    """
    _check_kin(studies)
    judged = [one for one in studies if steps is None or _place(one)["steps"] == steps]
    lengths = {_place(one)["steps"] for one in judged}
    if lengths:
        judged = [one for one in judged if _place(one)["steps"] == max(lengths)]
    commands = [
        training_command(study.facts["names"], study.document["seeds"], absent)
        for study in judged
        if (absent := [arm for arm in NEEDED if arm not in (TICKET, *study.facts["arms"])])
    ]
    rates = sorted({_place(one)["lr"] for one in judged})
    if not commands and len(rates) < rule.least_rates:
        commands = _more_rates(rule, judged[0], rates)
    if commands:
        raise VerdictError(
            f"rule {rule.name!r} compares {', '.join(NEEDED)} at {rule.least_rates} or more "
            f"learning rates; got {len(rates)} ({', '.join(f'{rate:g}' for rate in rates)}). "
            f"Train what is missing, and judge all of them together:\n" + "\n".join(commands)
        )
    setting = studies[0].facts["setting"]
    number = setting["judged_round"]
    row = next(r for r in studies[0].rows if (r["arm"], r["round"]) == (TICKET, number))
    cells = [
        Cell(
            rate=_place(one)["lr"],
            steps=_place(one)["steps"],
            samples=samples_of(one.rows, number),
        )
        for one in studies
    ]
    return judge_strictly(
        rule, cells, density=row["density"], margin=setting["margin"], steps=steps
    )


def _place(study: Study) -> dict[str, Any]:
    try:
        return dict(study.facts["setting"]["place"])
    except KeyError:
        raise CallError(
            f"study {study.digest[:12]} was written before learning rates were noted. Repeat its "
            "`tombola find`, which trains nothing that is stored."
        ) from None


def _check_kin(studies: Sequence[Study]) -> None:
    first, *others = studies
    for other in others:
        if _place(other)["of"] != _place(first)["of"]:
            raise CallError(
                f"studies {_said(first)} and {_said(other)} differ in more than learning rate and "
                "length; want one recipe and one world, judged at one round."
            )
        if other.document["seeds"] != first.document["seeds"]:
            raise CallError(
                f"studies {first.digest[:12]} and {other.digest[:12]} have the seeds "
                f"{first.document['seeds']} and {other.document['seeds']}; want the same."
            )


def _said(study: Study) -> str:
    document = study.document
    return f"{study.digest[:12]} ({document['recipe']} on {document['world']})"


def _more_rates(rule: Strict, study: Study, rates: Sequence[float]) -> list[str]:
    """Commands for learning rates around those there are, lower and higher in turn."""
    names, low, high, found = study.facts["names"], rates[0], rates[-1], list[float]()
    while len(rates) + len(found) < rule.least_rates:
        if len(found) % 2:
            low /= STEP
            found.append(low)
        else:
            high *= STEP
            found.append(high)
    base = str(names.get("world", study.document["world"]))
    parts = [part for part in base.split(",") if not part.startswith("lr=")]
    worlds = [",".join([parts[0], f"lr={lr:.3g}", *parts[1:]]) for lr in found]
    seeds = study.document["seeds"]
    return [training_command(names, seeds, (), world=world) for world in worlds]
