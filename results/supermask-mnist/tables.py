"""Prints the tables of the studies: accuracy by density, and differences paired by seed.

python tables.py      after run.sh has made the studies; trains nothing
"""

import json
from pathlib import Path
from typing import Any

import study
import torch

from tombola.lab.statistics import summarise
from tombola.train.evaluate import evaluate
from tombola.values.mask import Mask
from tombola.values.rng import stream
from tombola.world.world import initial_params

HERE = Path(__file__).parent
SEEDS = 3
Accuracies = dict[float, list[float]]  # by density, in the order of the seeds


def rows_of(name: str, arm: str = "ticket") -> Accuracies:
    """Test accuracies of an arm; `dense` has density 1."""
    document: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    assert document["seeds"] == list(range(SEEDS))
    return {
        round(row["density"], 2): row["metrics"]["test_accuracy"]["values"]
        for row in document["rows"]
        if row["arm"] == arm
    }


def random_masks() -> Accuracies:
    """The weights that edge-popup chooses among, under random masks of the same counts."""
    world, found = study.lenet(), Accuracies()
    for density in study.DENSITIES:
        found[density] = []
        for seed in range(SEEDS):
            order = {
                layer.name: torch.randperm(layer.count, generator=stream(seed, layer.name))
                for layer in world.layers
            }
            mask = Mask(
                {
                    layer.name: (order[layer.name] < round(density * layer.count)).reshape(
                        layer.shape
                    )
                    for layer in world.layers
                }
            )
            start = initial_params(world, seed)
            weights = study.SCALED.parametrisation.coords(start, mask, seed)
            network = world.network(mask.apply(weights))
            found[density].append(evaluate(network, world, world.test)["accuracy"])
    return found


def interval(values: list[float]) -> str:
    found = summarise([100 * value for value in values])
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def by_density(table: dict[str, Accuracies]) -> None:
    heads = [f"{100 * density:g} %" for density in study.DENSITIES]
    print(f"| test accuracy, %, n = {SEEDS} |", " | ".join(heads), "|")
    print("| --- |" + " --- |" * len(heads))
    for name, found in table.items():
        cells = (found.get(density, found.get(1.0)) for density in study.DENSITIES)
        print(f"| {name} |", " | ".join(interval(cell) if cell else "-" for cell in cells), "|")


def paired(one: list[float], other: list[float]) -> str:
    return interval([a - b for a, b in zip(one, other, strict=True)])


if __name__ == "__main__":
    popup = rows_of("scaled-lenet")
    arms = {
        "Kaiming normal": rows_of("kaiming-lenet"),
        "multi-prize": rows_of("prize-lenet"),
        "supermask, dynamic rescaling": rows_of("chances-chances"),
        "random mask, nothing trained": random_masks(),
        "dense, weights trained": rows_of("scaled-lenet", "dense"),
    }
    by_density({"edge-popup, signed constant": popup, **arms})
    print(f"\n| edge-popup less its own at 50 %, points, n = {SEEDS} | |\n| --- | --- |")
    for density in study.DENSITIES:
        if density != 0.5:
            print(f"| {100 * density:g} % | {paired(popup[density], popup[0.5])} |")
    print(f"\n| edge-popup less another, points, n = {SEEDS} | 50 % | 10 % |\n| --- | --- | --- |")
    for name, found in arms.items():
        others = [(popup[k], found.get(k, found.get(1.0))) for k in (0.5, 0.1)]
        cells = [paired(own, other) if other else "-" for own, other in others]
        print(f"| {name} |", " | ".join(cells), "|")
