"""Prints this folder's tables from the documents that `run.sh` wrote.

python tables.py > tables.md
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLACES = ("arm", "statistics", "split", "step")


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / name).read_text())
    return found


def points(metric: dict[str, Any]) -> str:
    """mean [low, high] in percentage points."""
    if metric["mean"] is None:
        return "none"
    return "{mean:.2f} [{low:.2f}, {high:.2f}]".format(
        **{name: 100 * metric[name] for name in ("mean", "low", "high")}
    )


def steps(metric: dict[str, Any]) -> str:
    """mean [low, high] (each seed)."""
    each = ", ".join("none" if value is None else f"{value:.0f}" for value in metric["values"])
    if metric["mean"] is None or metric["low"] is None:
        return f"{each}"
    return "{mean:.0f} [{low:.0f}, {high:.0f}]".format(**metric) + f" ({each})"


def barriers(found: dict[str, Any]) -> None:
    (table,) = [table for table in found["tables"] if table["name"] == "barriers"]
    n = len(found["seeds"])
    print(f"### {found['world']}: barriers, percentage points, mean [95 % t interval], n = {n}\n")
    print(
        "| arm | statistics | k |", "error barrier, train | error barrier, test | end error, test |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    rows = {tuple(row[name] for name in PLACES): row["metrics"] for row in table["rows"]}
    for arm, how, step in dict.fromkeys((arm, how, step) for arm, how, _, step in rows):
        train, test = (rows[arm, how, split, step] for split in ("train", "test"))
        cells = map(points, (train["error_barrier"], test["error_barrier"], test["end_error"]))
        print(f"| {arm} | {how} | {step} |", " | ".join(cells), "|")
    print()


def onsets(found: dict[str, Any]) -> None:
    (table,) = [table for table in found["tables"] if table["name"] == "onset"]
    print(
        f"### {found['world']}: onset of stability, steps (each seed), n = {len(found['seeds'])}\n"
    )
    print("| arm | onset |")
    print("| --- | --- |")
    for row in table["rows"]:
        print(f"| {row['arm']} | {steps(row['metrics']['onset_step'])} |")
    print()


def main() -> None:
    for name in ("resnet.json", "lenet.json"):
        found = document(name)
        barriers(found)
        onsets(found)


if __name__ == "__main__":
    main()
