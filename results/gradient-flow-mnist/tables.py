"""Prints the tables of the study and its probes: accuracy, gradient norms, what tickets relearn.

python tables.py              after run.sh has made the study
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STEPS = (0, 49, 165, 577, 1650)


def read(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text())


def cell(of: Mapping[str, Any], digits: int, scale: float = 1.0) -> str:
    mean, low, high = (scale * of[key] for key in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(head: list[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def rows_of(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return next(of["rows"] for of in document["tables"] if of["name"] == name)


def flow() -> None:
    """Norm of the gradient by step, and what it led to."""
    study, probe = read("study"), read("gradient-flow")
    accuracy = {row["arm"]: row["metrics"]["test_accuracy"] for row in study["rows"]}
    norms = {
        (row["arm"], row["step"]): row["metrics"]["gradient_norm"]
        for row in rows_of(probe, "gradient_flow")
    }
    table(
        [
            f"gradient norm, n = {len(study['seeds'])}",
            *(f"step {step:,}" for step in STEPS),
            "test accuracy, %",
        ],
        [
            [
                study["recipe"] if arm == "ticket" else arm,
                *(cell(norms[arm, step], 2) for step in STEPS),
                cell(accuracy[arm], 2, 100),
            ]
            for arm in accuracy
        ],
    )


def relearned() -> None:
    """Distances, barriers, answers; then ensembles."""
    probe = read("relearning")
    answers = {row["network"]: row["metrics"] for row in rows_of(probe, "answers")}
    named = {
        "distance_at_start": ("distance to the solution at the start", 2, 1),
        "distance_at_end": ("at the end", 2, 1),
        "loss_barrier": ("training loss barrier", 3, 1),
        "error_barrier": ("training error barrier, %", 2, 100),
        "than_solution": ("other answers than the solution, %", 2, 100),
        "among_copies": ("than one another, %", 2, 100),
    }
    table(
        [f"n = {len(probe['seeds'])}", *(title for title, _, _ in named.values())],
        [
            [
                row["network"],
                *(
                    cell({**row["metrics"], **answers[row["network"]]}[name], digits, scale)
                    for name, (_, digits, scale) in named.items()
                ),
            ]
            for row in rows_of(probe, "distances")
        ],
    )
    table(
        ["test accuracy, %", "copies together", ""],
        [
            [row["network"], str(row["members"]), cell(row["metrics"]["test_accuracy"], 2, 100)]
            for row in rows_of(probe, "ensembles")
        ],
    )


if __name__ == "__main__":
    flow()
    relearned()
