"""Several commands at once in one store, and each alone in a store of its own.

    python benchmarks/processes.py --rounds 5 --on digits-short

A round starts eight `tombola find` of overlapping studies at the same moment, each a fresh
interpreter: other seeds, other arms, other recipes, one the same as another. All must end well, and
every table, result and tensor must be what the lone runs give, bit for bit. Reported: how many
steps were trained twice. Exit status 1 when anything differs, or when more than `--allow` of the
steps were trained twice.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from storms import Running, objects, results, unsound

STUDIES = (
    ("imp", "--seeds", "3"),
    ("imp", "--seeds", "3"),
    ("imp", "--seeds", "2"),
    ("imp", "--seeds", "1,2,3"),
    ("imp", "--seeds", "2", "--controls-at", "all"),
    ("imp", "--seeds", "3", "--arms", "dense,ticket,reinit", "--draws", "2"),
    ("oneshot", "--seeds", "2"),
    ("imp-rewind", "--seeds", "0,2", "--arms", "dense,ticket"),
)


def start(study: tuple[str, ...], options: argparse.Namespace, store: Path, log: Path) -> Running:
    call = ["find", *study, "--on", options.on, "--jobs", str(options.jobs), "--quiet", "--json"]
    return Running([*call, "--store", store], log, fresh=True)


def ended(running: Running) -> dict[str, Any]:
    """The document it printed."""
    status = running.wait()
    if status != 0:
        raise SystemExit(f"FAIL: exit status {status}:\n{running.err}")
    document: dict[str, Any] = json.loads(running.out)
    return document


def differences(alone: Path, shared: Path) -> list[str]:
    """What the lone stores have and the shared one has otherwise, or has besides."""
    wrong = unsound(shared)
    for what, of in (("result", results), ("tensor", objects)):
        wanted: dict[str, Any] = {}
        for store in sorted(alone.iterdir()):
            wanted |= of(store)
        found = of(shared)
        wrong += [f"{what} {name} differs" for name in wanted if found.get(name) != wanted[name]]
        wrong += [f"{what} {name} is one too many" for name in set(found) - set(wanted)]
    return wrong


def steps_needed(store: Path) -> int:
    """What all stored results took, each counted once."""
    paths = (store / "calls").rglob("[!.]*.json")
    return sum(json.loads(path.read_text())["context"]["steps"] for path in paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--on", default="digits-short", help="a world (default: digits-short)")
    parser.add_argument("--jobs", type=int, default=1, help="of each command (default: 1)")
    parser.add_argument("--allow", type=float, default=0.0, help="steps trained twice, a fraction")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, began = Path(folder, "alone"), time.monotonic()
        alone.mkdir()
        tables = [
            ended(start(study, options, alone / str(place), Path(folder, f"{place}")))["rows"]
            for place, study in enumerate(STUDIES)
        ]
        print(f"{len(STUDIES)} studies alone: {time.monotonic() - began:.0f} s", flush=True)
        wrong, trained, needed = [], 0, 0
        for number in range(options.rounds):
            shared, began = Path(folder, f"shared{number}"), time.monotonic()
            commands = [
                start(study, options, shared, Path(folder, f"{number}-{place}"))
                for place, study in enumerate(STUDIES)
            ]
            documents = [ended(command) for command in commands]
            wrong += [
                f"round {number}, study {place}: the table differs"
                for place, (document, table) in enumerate(zip(documents, tables, strict=True))
                if document["rows"] != table
            ]
            wrong += differences(alone, shared)
            steps = sum(document["cost"]["steps_trained"] for document in documents)
            trained, needed = trained + steps, needed + steps_needed(shared)
            print(
                f"round {number}: {time.monotonic() - began:.0f} s, {steps:,} steps trained, "
                f"{steps_needed(shared):,} needed",
                flush=True,
            )
        twice = trained / needed - 1
        print(f"{trained - needed:,} of {trained:,} steps trained twice ({twice:.2%})")
        print("\n".join(wrong))
        bad = bool(wrong) or twice > options.allow
        print("FAIL" if bad else "PASS: every table, result and tensor as alone, bit for bit")
        return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
