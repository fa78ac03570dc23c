"""Kill studies at random moments, let them go on, and compare with an undisturbed run.

    python benchmarks/kills.py --kills 200 --on digits-short --seeds 3

Each study is killed up to `--a-study` times, then runs to its end; studies follow one another until
all kills are made. A fifth of the kills hit a single job's process, the others are a SIGKILL of the
whole group. After each, every file of the store must be what its name says. At the end of a study
every result, tensor and table must equal the undisturbed run's, bit for bit; then `tombola gc` must
leave the very same files. Trainings save their state every 0.2 s instead of every 20 s, and files
are written in two halves, so that kills fall between checkpoints, in them, and in the middle of
files. Processes are forked from one that has imported everything; every tenth is a fresh
interpreter. Exit status 1 when anything differs.
"""

import argparse
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from storms import Running, objects, results, unsound

from tombola.cli import main as tombola
from tombola.lab.store import Store

CHECKPOINT_SECONDS = 0.2


class Storm:
    """Studies of one kind, each in a store of its own, and the moments at which they are killed.

    count: what was killed, and what it left lying. wrong: what must not be.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.choose = options, folder, random.Random(options.seed)
        self.count: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.calm, self.lives = folder / "calm", 0
        self.whole = self.undisturbed(fresh=False)
        self.table = json.loads((folder / "calm.out").read_text())["rows"]
        # With everything stored, a study lasts as long as a process needs before it works.
        self.start = {fresh: self.undisturbed(fresh=fresh) for fresh in (False, True)}

    def run(self, store: Path, log: str, *, fresh: bool) -> Running:
        ask = self.options
        call = ["find", ask.recipe, "--on", ask.on, "--seeds", str(ask.seeds)]
        return Running(
            [*call, "--jobs", "2", "--quiet", "--json", "--store", store],
            self.folder / log,
            fresh=fresh,
            checkpoint_seconds=CHECKPOINT_SECONDS,
        )

    def undisturbed(self, *, fresh: bool) -> float:
        """Seconds it takes."""
        began, running = time.monotonic(), self.run(self.calm, "calm", fresh=fresh)
        if running.wait() != 0:
            raise SystemExit(f"the undisturbed study failed:\n{running.err}")
        return time.monotonic() - began

    def killed(self) -> int:
        return self.count["process groups"] + self.count["single jobs"]

    def study(self, store: Path) -> None:
        """One study, killed again and again, then left to its end and looked through."""
        first = self.killed()
        while self.killed() < min(first + self.options.a_study, self.options.kills):
            if self.life(store):
                break
        else:
            self.end(store)
        self.compare(store)

    def life(self, store: Path) -> bool:
        """A process until it is killed; True if it came to its end before."""
        self.lives += 1
        fresh = self.lives % 10 == 0
        running = self.run(store, f"{store.name}-{self.lives}", fresh=fresh)
        while True:
            share = self.whole / self.options.a_study
            status = running.wait(self.choose.uniform(0, self.start[fresh] + 2 * share))
            if status is not None:
                self.ended(running, status)
                return status == 0
            if self.choose.random() < 0.2:
                self.count["single jobs"] += running.kill_a_child(self.choose)
                continue
            running.kill()
            self.count["process groups"] += 1
            self.look(store)
            return False

    def ended(self, running: Running, status: int) -> None:
        """A study may end in an error when one job was killed twice, and must say so."""
        if status == 1 and "ended from outside 2 times" in running.err:
            self.count["ends, since a job was killed twice"] += 1
        elif status != 0 or "Traceback" in running.err:
            self.wrong.append(f"exit status {status}: {running.err}")

    def look(self, store: Path) -> None:
        """The store of a process that has just been killed."""
        self.wrong += unsound(store)
        self.count["left a half-written file"] += any(store.rglob(".*.*.*"))
        self.count["left an unfinished training"] += any(store.rglob("*.checkpoint"))
        self.count["left a store without a result"] += not any(store.rglob("calls/*/*.json"))

    def end(self, store: Path) -> None:
        running = self.run(store, f"{store.name}-end", fresh=True)
        status = running.wait()
        assert status is not None
        self.ended(running, status)

    def compare(self, store: Path) -> None:
        """With the undisturbed run, before and after `tombola gc`."""
        self.count["studies"] += 1
        self.wrong += unsound(store)
        study = Store(store, create=False).studies()
        if study != Store(self.calm).studies():
            self.wrong.append(f"{store} holds the studies {study}")
        elif Store(store).read_study(study[0])["document"]["rows"] != self.table:
            self.wrong.append(f"{store}: the table differs")
        if results(store) != results(self.calm) or objects(store) != objects(self.calm):
            self.wrong.append(f"{store}: results or tensors differ")
        if self.command("gc", "--unused-for", "0", "--yes", "--store", str(store)) != 0:
            self.wrong.append(f"{store}: gc failed")
        if names(store) != names(self.calm):
            self.wrong.append(f"{store}: other files than undisturbed: {names(store)}")

    def command(self, *argv: str) -> int:
        with redirect_stdout(io.StringIO()):
            return tombola(argv)


def names(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all (default: 200)")
    parser.add_argument("--a-study", type=int, default=20, help="at most, each (default: 20)")
    parser.add_argument("--recipe", default="imp")
    parser.add_argument("--on", default="digits-short", help="a world (default: digits-short)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        storm = Storm(options, Path(folder))
        print(f"undisturbed: {storm.whole:.1f} s, {len(results(storm.calm))} results", flush=True)
        while storm.killed() < options.kills:
            storm.study(Path(folder, f"stormy{storm.count['studies']}"))
            print(f"{storm.killed()} kills, {storm.count['studies']} studies", flush=True)
        for name, number in storm.count.items():
            print(f"{number:5} {name}")
        print("\n".join(storm.wrong))
        print("FAIL" if storm.wrong else "PASS: every result, tensor and table equal, bit for bit")
        return 1 if storm.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
