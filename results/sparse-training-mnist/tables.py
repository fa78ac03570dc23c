"""Prints the tables of the study: accuracy, products, coverage; trains nothing anew.

python tables.py [store]      after run.sh has made the study
"""

import json
import sys
from pathlib import Path
from typing import Any

import study

from tombola.lab.engines.inline import Inline
from tombola.lab.question import Trial
from tombola.lab.runner import Runner
from tombola.lab.statistics import summarise
from tombola.lab.store import Store
from tombola.recipes.cost import training_cost
from tombola.recipes.recipe import Round

HERE = Path(__file__).parent


def interval(values: list[float], digits: int) -> str:
    found = summarise(values)
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def accuracies(document: dict[str, Any]) -> None:
    """One row for each arm; the dense network has one number."""
    heads = [f"{100 * density:g} %" for density in study.DENSITIES]
    print(f"| test accuracy, %, n = {len(document['seeds'])} |", " | ".join(heads), "|")
    print("| --- |" + " --- |" * len(heads))
    rows = {(row["arm"], row["round"]): row for row in document["rows"]}
    for arm in dict.fromkeys(arm for arm, _ in rows):
        cells = []
        for number in range(1, len(heads) + 1):
            row = rows.get((arm, number), rows.get((arm, 0)))
            values = row["metrics"]["test_accuracy"]["values"] if row else None
            cells.append(interval([100 * v for v in values], 2) if values else "-")
        print(f"| {document['recipe'] if arm == 'ticket' else arm} |", " | ".join(cells), "|")


def coverage(turn: Round) -> float:
    """R_s: the fraction of all positions that the mask has kept at any time."""
    layers, start = turn.job.world.layers, turn.job.mask.load()
    rows = turn.end.moves or {}
    seen = sum(
        rows[layer.name][-1][4] if layer.name in rows else start.kept(layer.name, layer.count)
        for layer in layers
    )
    return seen / sum(layer.count for layer in layers)


def costs(store: Store, seeds: list[int]) -> None:
    """Products (dense = 1) and coverage R_s, means over seeds."""
    world = study.lenet()
    quiet: Any = lambda event: None  # noqa: E731
    print(f"\n| products, dense = 1; coverage, n = {len(seeds)} |", end="")
    print(" |".join(f" {100 * density:g} %" for density in study.DENSITIES), "|")
    print("| --- |" + " --- |" * len(study.DENSITIES))
    for recipe in (
        study.SHORT_RIGL,
        study.SHORT_SET,
        study.SHORT_STATIC,
        study.SHORT_GRADUAL,
    ):
        loops = {Trial(recipe.name, seed): recipe.loop(recipe, world, seed) for seed in seeds}
        turns = Runner(store, Inline(store, quiet), quiet).drive(loops)
        cells = []
        for place in range(len(study.DENSITIES)):
            rounds: list[Round] = [turns[trial][place] for trial in loops]
            products = [training_cost(turn.job, turn.end) for turn in rounds]
            seen = [coverage(turn) for turn in rounds]
            means = [sum(values) / len(values) for values in (products, seen)]
            cells.append(f"{means[0]:.3f}; {means[1]:.2f}")
        print(f"| {recipe.name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    document = json.loads((HERE / "study.json").read_text())
    accuracies(document)
    costs(Store(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / ".tombola"), document["seeds"])
