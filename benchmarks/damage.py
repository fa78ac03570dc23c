"""Damage every kind of file of a store, at places spread over it, and see what comes of it.

    python benchmarks/damage.py --flips 24 --cuts 8

One file at a time has a bit flipped, is cut short, is all zeros, or has a byte too many. Then comes
a command, each in its turn, and after it `find` and `verify`. Whatever comes next must either print
what it prints of an undamaged store, or say what is the matter (exit status 1 or 2, no traceback);
`find` must come to the undamaged table, `verify` must find every result equal, and everything in
the store must then be what its name says. Exit status 1 when anything is otherwise.
"""

import argparse
import itertools
import os
import random
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from damages import COMMANDS, Patient, damages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=24, help="bits of each file (default: 24)")
    parser.add_argument("--cuts", type=int, default=8, help="lengths of each file (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of which bit of a byte (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    choose, commands, wrong = random.Random(options.seed), itertools.cycle(COMMANDS), []
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        patient = Patient(Path(folder))
        for target, path in patient.targets.items():
            cases = list(damages(path.read_bytes(), options.flips, options.cuts, choose))
            for number, damaged in enumerate(cases):
                found = patient.wrong(target, damaged, next(commands))
                wrong += [f"{target}, damage {number}: {what}" for what in found]
            tried += len(cases)
            print(f"{len(cases):4} of {target}", flush=True)
        os.chdir("/")
    print("\n".join(wrong))
    print(f"{tried} damages, {len(patient.targets)} kinds of file, {len(COMMANDS)} commands")
    print("FAIL" if wrong else "PASS: each was said or made good; never a wrong result")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
