"""Prints this folder's tables from `study.json`, the document of `tombola find --json`.

python tables.py > tables.md
"""

import json
from pathlib import Path
from typing import Any

from tombola.lab.statistics import paired

DOCUMENT = json.loads((Path(__file__).parent / "study.json").read_text())
ROWS = {(row["arm"], row["round"]): row for row in DOCUMENT["rows"]}
ARMS = ("ticket", "reinit", "shuffle")
PAPER = [  # imp, iterative unless it says one-shot; densities in the paper's own words
    ("learns faster than dense, and better", "51.3 %", 3),
    ("earliest stop, 38 % before dense", "21.1 %", 7),
    ("best accuracy at the stop, over +0.3 points", "13.5 %", 9),
    ("stop and accuracy back at dense", "3.6 %", 15),
    ("accuracy first below dense", "2.9 %", 16),
]


def values(arm: str, number: int, metric: str) -> list[Any]:
    found: list[Any] = ROWS[arm, number]["metrics"][metric]["values"]
    return found


def shown(arm: str, number: int, metric: str, scale: float, digits: int) -> str:
    """mean [low, high] of a row, or a dash where the arm was not trained."""
    if (arm, number) not in ROWS:
        return "-"
    of = ROWS[arm, number]["metrics"][metric]
    mean, low, high = (scale * of[part] for part in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def versus_dense(arm: str, number: int, metric: str, scale: float, digits: int) -> str:
    """Mean paired difference to the dense network, with its 95 % interval."""
    dense = values("dense", 0, metric)
    found = paired(
        [scale * (a - b) for a, b in zip(values(arm, number, metric), dense, strict=True)],
        alpha=0.025,
    )
    return f"{found.estimate:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def table(metric: str, scale: float, digits: int) -> None:
    print("| round | density % |", " | ".join(ARMS), "|")
    print("| --- | --- |", " | ".join("---" for _ in ARMS), "|")
    for number in sorted({number for _, number in ROWS}):
        row = ROWS["ticket", number]
        cells = [shown(arm, number, metric, scale, digits) for arm in ARMS]
        print(f"| {number} | {100 * row['density']:.2f} |", " | ".join(cells), "|")
    print()


def main() -> None:
    n = len(DOCUMENT["seeds"])
    print(f"### Final test accuracy, %, mean [95 % t interval], n = {n} seeds\n")
    table("test_accuracy", 100, 2)
    print(f"### Test accuracy at the stop step, %, n = {n} seeds\n")
    table("stop_test_accuracy", 100, 2)
    print(f"### Stop step (least validation loss), n = {n} seeds\n")
    table("stop_step", 1, 0)
    print(f"### Beside the paper's break points, ticket minus dense, paired by seed, n = {n}\n")
    print(
        "| the paper says | at | our round, density | stop step | accuracy at stop, points "
        "| final accuracy, points |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for words, where, number in PAPER:
        density = 100 * ROWS["ticket", number]["density"]
        print(
            f"| {words} | {where} | {number}, {density:.2f} % |",
            versus_dense("ticket", number, "stop_step", 1, 0),
            "|",
            versus_dense("ticket", number, "stop_test_accuracy", 100, 2),
            "|",
            versus_dense("ticket", number, "test_accuracy", 100, 2),
            "|",
        )
    print(
        "| reinit: accuracy falls below dense | 21.1 % |",
        f"7, {100 * ROWS['reinit', 7]['density']:.2f} % |",
        versus_dense("reinit", 7, "stop_step", 1, 0),
        "|",
        versus_dense("reinit", 7, "stop_test_accuracy", 100, 2),
        "|",
        versus_dense("reinit", 7, "test_accuracy", 100, 2),
        "|",
    )
    mean = {arm: ROWS[arm, 7]["metrics"]["stop_step"]["mean"] for arm in ("reinit", "ticket")}
    ratio = mean["reinit"] / mean["ticket"]
    gap = [
        100 * (a - b)
        for a, b in zip(
            values("ticket", 7, "stop_test_accuracy"),
            values("reinit", 7, "stop_test_accuracy"),
            strict=True,
        )
    ]
    found = paired(gap, alpha=0.025)
    print(
        f"\nTicket against reinit at round 7: stops {ratio:.2f} times as early (paper: 2.51), "
        f"{found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}] points at the stop "
        "(paper: +0.5)."
    )


if __name__ == "__main__":
    main()
