"""Fill the disk in the middle of a study, make room, and compare with an undisturbed run.

    python benchmarks/full_disk.py --sizes 16 --on digits-short

For each of several sizes a store lies on a file system of that size (a tmpfs in a mount namespace
of its own), too small for the study. `find` must end with exit status 1 (2 where not even the store
could be made), say that the disk is full, show no traceback, and leave nothing half-written and
nothing that is not what its name says. Then the file system grows, and the same `find` must go on
and come to every result, tensor and table of an undisturbed run. Where the system does not allow to
mount, the size of single files is limited instead (RLIMIT_FSIZE), and the script says so. Exit
status 1 when anything is otherwise.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from storms import Running, objects, results, unsound

INSIDE = "TOMBOLA_FULL_DISK_INSIDE"  # set in the process that has a mount namespace of its own
NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


def may_mount(namespace: list[str]) -> bool:
    """Whether a tmpfs can be mounted in such a namespace."""
    with tempfile.TemporaryDirectory() as folder:
        call = [*namespace, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        try:
            return subprocess.run(call, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


class Disk:
    """A place of limited size for a store."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder, self.mounted = folder, mounted
        self.limit: int | None = None  # bytes of a single file

    def shrink(self, size: int) -> None:
        """Empty, with room for `size` bytes, or for files of that many bytes each."""
        self.folder.mkdir()
        if self.mounted:
            mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.folder)
        else:
            self.limit = size

    def grow(self) -> None:
        """As large as it needs to be."""
        if self.mounted:
            mount("-o", "remount,size=1g", self.folder)
        self.limit = None

    def clear(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)
        shutil.rmtree(self.folder)


def mount(*options: str | Path) -> None:
    subprocess.run(["mount", *map(str, options)], check=True)


class Trial:
    """One size."""

    def __init__(self, options: argparse.Namespace, folder: Path, disk: Disk) -> None:
        self.options, self.folder, self.disk = options, folder, disk
        self.calm = folder / "calm"
        status, running = self.find(self.calm, "calm")
        if status != 0:
            raise SystemExit(f"the undisturbed study failed:\n{running.err}")
        self.table = json.loads(running.out)["rows"]

    def find(self, store: Path, log: str) -> tuple[int | None, Running]:
        ask = self.options
        call = ["find", ask.recipe, "--on", ask.on, "--seeds", str(ask.seeds), "--jobs", "2"]
        running = Running(
            [*call, "--quiet", "--json", "--store", store],
            self.folder / log,
            fresh=ask.fresh,
            file_limit=self.disk.limit,
        )
        return running.wait(), running

    def wrong(self, size: int) -> list[str]:
        """What ought not to have happened with so much room."""
        store = self.disk.folder / "store"
        self.disk.shrink(size)
        try:
            status, running = self.find(store, f"full{size}")
            stored = len(results(store))
            wrong = self._unclean(status, running, stored) + unsound(store)
            wrong += [f"half-written: {path}" for path in store.rglob(".*.*.*")]
            self.disk.grow()
            status, running = self.find(store, f"room{size}")
            if status != 0 or "Traceback" in running.err:
                wrong.append(f"with room: exit status {status}: {running.err}")
            elif json.loads(running.out)["rows"] != self.table:
                wrong.append("with room: the table differs")
            if results(store) != results(self.calm) or objects(store) != objects(self.calm):
                wrong.append("with room: results or tensors differ")
            print(f"{size:>10,} bytes: {stored:3} of {len(results(self.calm))} results stored")
            return [f"{size} bytes: {what}" for what in wrong + unsound(store)]
        finally:
            self.disk.clear()

    def _unclean(self, status: int | None, running: Running, stored: int) -> list[str]:
        """How `find` ended where there is too little room."""
        said = "the disk is full" if self.disk.mounted else "File too large"
        if status == 0 and "report could not be written" in running.err:
            return [] if said in running.err else [running.err]  # all but the page was stored
        if status not in (1, 2) or said not in running.err or "Traceback" in running.err:
            return [f"exit status {status}: {running.err}"]
        return ["exit status 2 with results stored"] if status == 2 and stored else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, default=16, help="how many (default: 16)")
    parser.add_argument("--recipe", default="imp")
    parser.add_argument("--on", default="digits-short", help="a world (default: digits-short)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="fresh interpreters, not forks")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        for namespace in filter(may_mount, NAMESPACES):
            call = [*namespace, sys.executable, *sys.argv]
            return subprocess.run(call, env={**os.environ, INSIDE: "1"}, check=False).returncode
    mounted = INSIDE in os.environ
    method = "a tmpfs of each size" if mounted else "RLIMIT_FSIZE, since nothing can be mounted"
    print(f"method: {method}", flush=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(options, Path(folder), Disk(Path(folder, "disk"), mounted))
        files = [path.stat().st_size for path in trial.calm.rglob("*") if path.is_file()]
        needed = sum(files) if mounted else max(files)
        wrong = []
        for number in range(options.sizes):
            wrong += trial.wrong(8_192 + number * needed // options.sizes)
        print("\n".join(wrong))
        print("FAIL" if wrong else f"PASS: {options.sizes} sizes below {needed:,} bytes")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
