"""Prints the table of a study by arm and density, and paired differences between arms.

python arms.py study.json [--loss] arm/other ...

Accuracies are of the test split at the end of training, in per cent, with 95 % t intervals; paired
differences are by seed, in points. `arm/other` compares an arm with another one. --loss: the test
loss, in nats, in place of both.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tombola.lab.statistics import paired, summarise


def rows_of(document: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["arm"], row["round"]): row for row in document["rows"]}


def columns(rows: dict[tuple[str, int], dict[str, Any]]) -> list[int]:
    """All rounds of the ticket but the dense one; of many, every third and the last."""
    rounds = sorted(number for arm, number in rows if arm == "ticket" and number)
    return rounds if len(rounds) <= 5 else sorted({*rounds[2::3], rounds[-1]})


def values(row: dict[str, Any], loss: bool) -> list[float]:
    """Of each seed: accuracy in per cent, or loss."""
    found = row["metrics"]["test_loss" if loss else "test_accuracy"]["values"]
    return found if loss else [100 * value for value in found]


def cell(rows: dict[tuple[str, int], dict[str, Any]], arm: str, number: int, loss: bool) -> str:
    if (arm, number) not in rows:
        return "-"
    found = summarise(values(rows[arm, number], loss))
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def difference(
    rows: dict[tuple[str, int], dict[str, Any]], pair: str, number: int, loss: bool
) -> str:
    arm, other = pair.split("/")
    if (arm, number) not in rows:
        return "-"
    place = (other, number) if (other, number) in rows else (other, 0)
    if place not in rows:
        return "-"
    one, two = (values(rows[at], loss) for at in ((arm, number), place))
    found = paired([a - b for a, b in zip(one, two, strict=True)], alpha=0.025)
    return f"{found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def main(path: str, pairs: list[str], loss: bool) -> None:
    document = json.loads(Path(path).read_text())
    rows, n = rows_of(document), len(document["seeds"])
    numbers = columns(rows)
    arms = list(dict.fromkeys(arm for arm, _ in rows))
    densities = [f"{100 * rows['ticket', number]['density']:.2f} %" for number in numbers]
    checks = ", ".join(name for name, held in document["checks"].items() if held)
    print(f"`{document['recipe']}` on `{document['world']}`, n = {n}; study")
    print(f"`{document['study'][:12]}`; held: {checks}.\n")
    print("| test loss |" if loss else "| test accuracy, % |", " | ".join(densities), "|")
    print("| --- |" + " --- |" * len(numbers))
    for arm in arms:
        if (arm, 0) in rows and not any((arm, number) in rows for number in numbers):
            cells = [cell(rows, arm, 0, loss)] * len(numbers)
        else:
            cells = [cell(rows, arm, number, loss) for number in numbers]
        print(f"| {document['recipe'] if arm == 'ticket' else arm} |", " | ".join(cells), "|")
    print(
        f"\n| paired difference{'' if loss else ', points'}, n = {n} |", " | ".join(densities), "|"
    )
    print("| --- |" + " --- |" * len(numbers))
    for pair in pairs:
        cells = [difference(rows, pair, number, loss) for number in numbers]
        print(f"| {pair.replace('/', ' minus ')} |", " | ".join(cells), "|")


if __name__ == "__main__":
    given = sys.argv[2:]
    main(sys.argv[1], [pair for pair in given if pair != "--loss"], "--loss" in given)
