"""From trials to a table: one row for each arm and round, every number with n and an interval."""

from collections.abc import Mapping
from typing import Any

from tombola.lab.checks import Rounds
from tombola.lab.question import Question, Trial, metric_names
from tombola.lab.statistics import summarise
from tombola.lab.verdict import TICKET
from tombola.pieces.basis import basis_of
from tombola.pieces.schedule import round_half_up
from tombola.recipes.job import job_key
from tombola.recipes.recipe import Recipe, Round


def rows_of(question: Question, rounds: Rounds) -> list[dict[str, Any]]:
    """The table, ordered by arm (the ticket first), then round.

    A trial that diverged has no value: it counts in n, and the mean is over the rest. Several draws
    of a control with one seed are averaged first, so that n is always seeds.
    """
    found: dict[tuple[str, int], dict[int, list[Round]]] = {}
    for trial, turns in rounds.items():
        for turn in turns:
            place = (trial.arm, turn.target.round)
            found.setdefault(place, {}).setdefault(trial.seed, []).append(turn)
    for arm in (TICKET, *question.arms):  # rounds that a diverged trial never reached count too
        for number in _rounds_of(question, arm, found):
            found.setdefault((arm, number), {})
    arms = [TICKET, *question.arms]
    places = sorted(found, key=lambda place: (arms.index(place[0]), place[1]))
    return [_row(question, arm, number, found[arm, number]) for arm, number in places]


def _rounds_of(question: Question, arm: str, found: Mapping[tuple[str, int], Any]) -> set[int]:
    """The rounds at which an arm is to be trained."""
    control = question.arms.get(arm)
    if control is None or isinstance(control, Recipe):
        first = 0 if (arm, 0) in found else 1
        return set(range(first, question.targets[-1].round + 1))
    return set(question.control_rounds) if control.beside else {0}


def _row(
    question: Question, arm: str, number: int, turns: Mapping[int, list[Round]]
) -> dict[str, Any]:
    counts = [_kept_by_layer(question, turn) for of_seed in turns.values() for turn in of_seed]
    kept: float | None
    if counts:  # of seeds that were cut to as many units, perhaps not to as many weights
        kept = sum(sum(of.values()) for of in counts) / len(counts)
    else:
        kept = _asked(question, arm, number)
    metrics = {}
    for name in metric_names(question.world):
        values = [_value(turns.get(seed, []), name) for seed in question.seeds]
        metrics[name] = summarise(values).as_json()
    row: dict[str, Any] = {
        "arm": arm,
        "round": number,
        "density": kept / question.total,
        "kept": round_half_up(kept),
        "total": question.total,
        "n": len(question.seeds),
        "metrics": metrics,
    }
    collapsed = {name for kept_by_layer in counts for name, c in kept_by_layer.items() if c == 0}
    if collapsed:
        row["collapsed"] = sorted(collapsed)
    return row


def _asked(question: Question, arm: str, number: int) -> float:
    """Weights that a round that no trial reached would have kept; where only its cut would have
    told, the share of units it was to keep."""
    target, recipe = question.target(arm, number), question.recipe
    size = None if basis_of(recipe.rule) is None else recipe.size(question.world, target)
    return target.density * question.total if size is None else size


def _kept_by_layer(question: Question, turn: Round) -> dict[str, int]:
    """Weights kept of each tensor in scope of the network that was trained, a thinner one too."""
    return {
        layer.name: turn.end.kept.get(layer.name, layer.count)
        for layer in question.recipe.layers(turn.job.world)
    }


def _value(turns: list[Round], name: str) -> float | None:
    """Mean over the draws of one seed; None if none of them has a number."""
    values = [turn.end.metrics.get(name) for turn in turns]
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def samples_of(rows: list[dict[str, Any]], judged_round: int) -> dict[str, dict[str, Any]]:
    """What a rule looks at: values of each arm at the judged round; at round 0 of arms that are
    trained once for each seed, as the whole network is."""
    beside = {row["arm"] for row in rows if row["round"]}
    return {
        row["arm"]: {name: metric["values"] for name, metric in row["metrics"].items()}
        for row in rows
        if row["round"] == judged_round or (row["round"] == 0 and row["arm"] not in beside)
    }


def trials_of(question: Question, rounds: Rounds) -> list[dict[str, Any]]:
    """Where each trained network and ticket lies in the store, by digest, and what it took.

    units: where whole units are cut, which of them it keeps. call: key of its training, whose
    record has the validation curve. kept: weights by layer. spent: optimiser steps to find and
    train it, from the initial values on. cuts_to_zero: whether its cut weights are zero, rather
    than frozen at other values. executor: what made its steps; why_dense: why the plain one did,
    where another was asked for or looked at.
    """
    return [_reference(question, trial, turn) for trial, turns in rounds.items() for turn in turns]


def _reference(question: Question, trial: Trial, turn: Round) -> dict[str, Any]:
    kept = _kept_by_layer(question, turn)
    own = not isinstance(question.arms.get(trial.arm), Recipe)  # in the basis of the study's recipe
    units = turn.cut.units if turn.cut is not None and own else None
    density = turn.target.density if units is None else sum(kept.values()) / question.total
    return {
        "arm": trial.arm,
        "seed": trial.seed,
        "round": turn.target.round,
        "draw": turn.draw,
        "density": density,
        "init": turn.job.begin.params.digest,
        "start_step": turn.job.begin.step,
        "mask": turn.end.mask.digest,
        "units": None if units is None else units.digest,
        "params": turn.end.params.digest,
        "diverged_at": turn.end.diverged_at,
        "call": job_key(turn.job),
        "kept": kept,
        "spent": turn.spent,
        "cuts_to_zero": turn.job.parametrisation.cuts_to_zero,
        "executor": turn.end.executor,
        "why_dense": turn.end.why_dense,
    }
