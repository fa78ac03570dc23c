"""Prints this folder's tables from the documents that `run.sh` wrote.

python tables.py > tables.md
"""

import json
from pathlib import Path
from typing import Any

from tombola.lab.statistics import paired

HERE = Path(__file__).parent
RATES = ("small", "large")
PAIRS = ("start-end", "dense-end", "init-dense", "fresh-end")


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / name).read_text())
    return found


def shown(of: dict[str, Any], scale: float = 1.0) -> str:
    """mean [low, high]."""
    return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(
        **{name: scale * of[name] for name in ("mean", "low", "high")}
    )


def rows(found: dict[str, Any], share: float) -> dict[tuple[str, int, str], dict[str, Any]]:
    (table,) = [table for table in found["tables"] if table["name"] == "overlap"]
    return {
        (row["arm"], row["round"], row["pair"]): row
        for row in table["rows"]
        if row["share"] == share
    }


def main() -> None:
    probes = {rate: document(f"{rate}.json") for rate in RATES}
    n = len(probes["small"]["seeds"])
    print(f"### Overlap of the largest fifth, mean [95 % t interval], n = {n} seeds\n")
    print("| rate | arm | density % |", " | ".join(PAIRS), "|")
    print("| --- | --- | --- |", " | ".join("---" for _ in PAIRS), "|")
    for rate, found in probes.items():
        known = rows(found, 0.2)
        for arm, number in dict.fromkeys((arm, number) for arm, number, _ in known):
            if arm == "dense":
                continue  # the ticket's round 0
            cells = [shown(known[arm, number, pair]["metrics"]["overlap"]) for pair in PAIRS]
            density = 100 * known[arm, number, PAIRS[0]]["density"]
            print(f"| {rate} | {arm} | {density:.1f} |", " | ".join(cells), "|")
    print(f"\n### Whole network, start-end, by the share that counts as large, n = {n}\n")
    shares = [0.1, 0.2, 0.3, 0.4, 0.5]
    print("| rate |", " | ".join(f"{share:g}" for share in shares), "|")
    print("| --- |", " | ".join("---" for _ in shares), "|")
    for rate, found in probes.items():
        of = [
            rows(found, share)["ticket", 0, "start-end"]["metrics"]["overlap"] for share in shares
        ]
        print(f"| {rate} |", " | ".join(map(shown, of)), "|")
    print(f"\n### Ticket less reinit, final test accuracy in points, paired by seed, n = {n}\n")
    print("| rate | dense | density % | ticket | reinit | ticket less reinit |")
    print("| --- | --- | --- | --- | --- | --- |")
    for rate in RATES:
        accuracy(rate)


def accuracy(rate: str) -> None:
    """A row for each round that reinit was trained at."""
    table = {(row["arm"], row["round"]): row for row in document(f"{rate}-study.json")["rows"]}
    dense = shown(table["dense", 0]["metrics"]["test_accuracy"], 100)
    for arm, number in table:
        if arm != "reinit":
            continue
        two = [table[one, number]["metrics"]["test_accuracy"] for one in ("ticket", "reinit")]
        gaps = [100 * (a - b) for a, b in zip(*(one["values"] for one in two), strict=True)]
        gap = paired(gaps, alpha=0.025)
        print(
            f"| {rate} | {dense} | {100 * table['ticket', number]['density']:.1f} |",
            f"{shown(two[0], 100)} | {shown(two[1], 100)} |",
            f"{gap.estimate:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] |",
        )


if __name__ == "__main__":
    main()
