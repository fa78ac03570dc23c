"""Kill a study at random moments, let it go on, and compare with an undisturbed run.

    python benchmarks/kills.py --kills 20 --on digits-short --seeds 3

Prints how many kills fell where, and whether every stored result and object is the same, bit for
bit. The killed study saves its trainings every 0.2 s instead of every 20 s, so that kills fall
between checkpoints, and in them. Exit status 1 when anything differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START = 2.0  # seconds until a study begins to work

STUDY = """
import sys
import tombola.train.loop
tombola.train.loop.CHECKPOINT_SECONDS = 0.2
from tombola.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(store: Path, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    call = [
        sys.executable,
        "-c",
        STUDY,
        "find",
        options.recipe,
        "--on",
        options.on,
        "--seeds",
        str(options.seeds),
        "--store",
        str(store),
        "--json",
    ]
    return subprocess.Popen(
        call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def results(store: Path) -> dict[str, object]:
    """Every result by its key, without what is noted beside it (seconds, host)."""
    found = {}
    for path in (store / "calls").rglob("*.json"):
        content = json.loads(path.read_text())
        found[content["key"]] = content["result"]
    return found


def objects(store: Path) -> set[str]:
    return {path.name for path in (store / "objects").rglob("[!.]*.safetensors")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--recipe", default="imp")
    parser.add_argument("--on", default="digits-short")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calm, stormy = Path(folder, "calm"), Path(folder, "stormy")
        began = time.monotonic()
        if start(calm, options).wait() != 0:
            print("the undisturbed study failed; run it by hand to see why", file=sys.stderr)
            return 1
        whole = time.monotonic() - began
        moments, kills, in_checkpoint = random.Random(0), 0, 0
        while True:
            running = start(stormy, options)
            work = moments.uniform(0.0, 2.0) * whole / max(1, options.kills)
            limit = START + work if kills < options.kills else None
            try:
                status = running.wait(limit)
                break
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                kills += 1
                in_checkpoint += any((stormy / "legs").rglob("*.checkpoint"))
        same = results(calm) == results(stormy) and objects(calm) == objects(stormy)
        print(f"undisturbed: {whole:.1f} s, {len(results(calm))} results")
        print(
            f"killed {kills} times, {in_checkpoint} of them with an unfinished training stored; "
            f"then exit status {status}"
        )
        print("all results and objects equal, bit for bit" if same else "RESULTS DIFFER")
        return 0 if same and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
