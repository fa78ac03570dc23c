"""What the studies recorded under results/ say about a recipe."""

import json
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from website.pages import ROOT, title

MOST_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Found:
    """A recipe in one recorded study: which rows are its own, and those of the dense network.

    path: of the document, in the repository. named: what the study calls the recipe.
    """

    path: str
    document: dict[str, Any]
    named: str
    rows: list[dict[str, Any]]

    def shown(self) -> str:
        """The study's heading and a table of the recipe's accuracy beside the dense network's."""
        folder = self.path.rpartition("/")[0]
        heading = title((ROOT / folder / "README.md").read_text())
        document, n = self.document, len(self.document["seeds"])
        every = math.ceil(len(self.rows) / MOST_ROWS)
        kept = self.rows[::-every][::-1]
        whole = next(
            (row for row in document["rows"] if row["arm"] == "dense"), document["rows"][0]
        )
        lines = [
            f"| {100 * row['density']:.3g} | {accuracy(row)} | {accuracy(whole)} |" for row in kept
        ]
        left_out = f"; one in {every} of its densities" if every > 1 else ""
        return (
            f"**[{heading}](../../{folder})**: `{self.named}` on `{document['world']}`, "
            f"n = {n} seeds{left_out}. Command, date and machine are on that page, everything else "
            f"in [`{self.path.rpartition('/')[2]}`](../../{self.path}).\n\n"
            f"| density, % | test accuracy, % | dense, % |\n| --- | --- | --- |\n"
            + "\n".join(lines)
        )


def accuracy(row: dict[str, Any]) -> str:
    """Mean and 95 % interval of the final test accuracy, in per cent."""
    found = row["metrics"]["test_accuracy"]
    mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def found_for(name: str) -> list[Found]:
    """The recorded studies in which a recipe is the ticket or an arm."""
    found = []
    for path, document in studies():
        arms = {"ticket": document["recipe"]}
        arms |= {row["arm"]: row["arm"] for row in document["rows"] if row["arm"] != "ticket"}
        for arm, called in arms.items():
            rows = [row for row in document["rows"] if row["arm"] == arm and row["density"] < 1]
            if is_variant(called, name) and rows:
                found.append(Found(path=path, document=document, named=called, rows=rows))
    return found


def is_variant(called: str, name: str) -> bool:
    """Whether a study's recipe is this one, perhaps shorter: `short-rigl`, `imp-20`,
    `imp-4-rounds`."""
    return re.fullmatch(rf"(short-)?{re.escape(name)}(-\d+(-rounds)?)?", called) is not None


@cache
def studies() -> tuple[tuple[str, dict[str, Any]], ...]:
    found = []
    for at in sorted(ROOT.glob("results/*/*.json")):
        document = json.loads(at.read_text())
        if {"recipe", "rows", "seeds", "world"} <= set(document):
            found.append((str(at.relative_to(ROOT)), document))
    return tuple(found)
