"""Every short preset of the CIFAR-10 networks, from `find` to verdict, on the real images.

    python benchmarks/presets.py --seeds 2

Runs the command line as a user would, prints a table of what each study said and took, and ends
with status 1 if one of them did not end well or a self-check was not made.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tombola.world.catalogue import WORLDS

PRESETS = [name for name in WORLDS if name.startswith("cifar10-") and name.endswith("-short")]


def study(world: str, seeds: int, store: Path) -> tuple[dict[str, Any] | None, float, str]:
    """The document `find` prints, if it did; the seconds it took; what it said on the way."""
    call = [
        sys.executable,
        "-m",
        "tombola.cli",
        "find",
        "imp",
        "--on",
        world,
        "--seeds",
        str(seeds),
    ]
    began = time.perf_counter()
    done = subprocess.run(
        [*call, "--store", str(store), "--json", "--yes"], capture_output=True, text=True
    )
    document = json.loads(done.stdout) if done.returncode == 0 else None
    return document, time.perf_counter() - began, done.stderr


def row(document: dict[str, Any], arm: str, number: int) -> dict[str, Any]:
    found: dict[str, Any] = next(
        r for r in document["rows"] if (r["arm"], r["round"]) == (arm, number)
    )
    return found


def accuracy(found: dict[str, Any]) -> str:
    of = found["metrics"]["test_accuracy"]
    return f"{of['mean']:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=PRESETS, help="Names; default: all of them.")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    failed = []
    print("| preset | density | dense | ticket | reinit | shuffle | n | steps | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for world in options.presets:
        with tempfile.TemporaryDirectory() as folder:
            document, seconds, said = study(world, options.seeds, Path(folder) / "store")
        if document is None or False in document["checks"].values():
            failed.append(world)
            print(f"{world} FAILED\n{said}", file=sys.stderr)
            continue
        last = max(r["round"] for r in document["rows"] if r["arm"] == "ticket")
        arms = [row(document, "dense", 0)]
        arms += [row(document, arm, last) for arm in ("ticket", "reinit", "shuffle")]
        print(
            f"| `{world}` | {arms[1]['density']:.4f} |",
            " | ".join(accuracy(arm) for arm in arms),
            f"| {arms[1]['n']} | {document['cost']['steps_trained']:,} | {seconds:.0f} |",
            flush=True,
        )
    print(f"\n{len(options.presets) - len(failed)} of {len(options.presets)} ended well.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
