"""Make thousands of calls drawn at random, nearly all of them wrong, and see that none does harm.

    python benchmarks/wrong_calls.py --calls 2000

Commands, options and values, names, objects of the wrong kind, recipes and worlds of odd pieces,
ticket files cut short, altered or with other facts: drawn by hypothesis. Each call must end with
exit status 0, 1 or 2 and say why it is not 0; show no traceback, but for the user's own frames;
print one JSON document where one was asked for; with status 2 write nothing; and leave no store
damaged and nothing half-written. Calls are made in this process, every fiftieth also by a fresh
interpreter, which must end alike. Exit status 1 when any does otherwise.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from wrong_calls import Call, Sandbox, drawn_calls

FRESH = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from wrong_calls import quick
from tombola.cli import main
with quick():
    sys.exit(main())
"""


def fresh(sandbox: Sandbox, call: Call) -> tuple[int, list[str]]:
    """The exit status of a fresh interpreter, and what is wrong with it."""
    argv = sandbox.prepare(call)
    tests = str(Path(__file__).parents[1] / "tests")
    done = subprocess.run(
        [sys.executable, "-c", FRESH, tests, *argv], capture_output=True, text=True, check=False
    )
    wrong = [] if "Traceback" not in done.stderr or "odd_" in done.stderr else [done.stderr]
    sandbox.restore()
    return done.returncode, [f"{call}, in a fresh interpreter\n    {what}" for what in wrong]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2_000, help="how many (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the calls (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(Path(folder))
        for number, call in enumerate(drawn_calls(sandbox.good, options.calls, options.seed), 1):
            status, found = sandbox.wrong(call)
            wrong += found
            ends[f"{call.argv[0]} {status}"] += 1
            if number % 50 == 0:
                again, found = fresh(sandbox, call)
                wrong += found
                if again != status:
                    wrong.append(f"{call}\n    {status} here, {again} in a fresh interpreter")
                print(f"{number} calls, {len(wrong)} wrong", flush=True)
        os.chdir("/")
    for end, number in sorted(ends.items()):
        print(f"{number:6} {end}")
    print("\n".join(wrong))
    print("FAIL" if wrong else f"PASS: {ends.total()} calls")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
