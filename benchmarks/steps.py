"""One training step of each network of the 2019 paper at full size: time and memory.

    python benchmarks/steps.py                    # all of them, a few minutes
    python benchmarks/steps.py cifar10-conv2      # one

Each world is measured in a process of its own, on its real data. The step is tombola's, with its
augmentation, masks and self-checks, at about half density; beside it stands the same step as a bare
torch loop over ready tensors, with no mask. `ratio` is tombola over bare, medians of alternating
steps. Memory is the process's peak, of which `data` is the set in memory.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from tombola.lab.pace import begun
from tombola.train.loop import train
from tombola.world.batch import leaves
from tombola.world.catalogue import WORLDS
from tombola.world.world import World

TIMES = 7


def measured(name: str) -> dict[str, Any]:
    """Time and memory of one world, in this process."""
    torch.set_num_threads(1)
    world = replace(WORLDS[name](), evaluate_every=10**9)
    start = begun(world, 0.5, until=1)
    train(replace(start, until=2))
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # before the bare loop
    bare, first = BareLoop(world), _seconds(lambda: train(start))
    more = max(2, min(200, int(0.2 / first)))
    longer = replace(start, until=1 + more)
    ours, theirs = [], []
    for _ in range(TIMES):
        one = _seconds(lambda: train(start))
        ours.append((_seconds(lambda: train(longer)) - one) / more)
        theirs.append(_seconds(lambda: [bare.step() for _ in range(more)]) / more)
    sets = (world.train, world.validation, world.test)
    return {
        "world": name,
        "weights": sum(layer.count for layer in world.layers),
        "batch": world.batch_size,
        "seconds": statistics.median(ours),
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "memory": memory,
        "data": sum(leaf.nbytes for part in sets for leaf in leaves(part.inputs)),
    }


class BareLoop:
    """The same network, optimiser and batch size, and nothing else."""

    def __init__(self, world: World) -> None:
        self._network = world.new_network(0)
        self._optimiser = world.optimiser.build(list(self._network.parameters()))
        self._batch = world.batch(world.train, torch.arange(world.batch_size))

    def step(self) -> None:
        self._optimiser.zero_grad()
        loss = cross_entropy(self._network(self._batch.inputs), self._batch.targets)
        loss.backward()
        self._optimiser.step()


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", nargs="*", help="Names; default: all at full size.")
    parser.add_argument("--here", action="store_true", help="Measure one in this process, as JSON.")
    options = parser.parse_args()
    names = options.worlds or [
        name for name in WORLDS if not name.startswith("digits") and not name.endswith("-short")
    ]
    if options.here:
        print(json.dumps(measured(names[0])))
        return
    print("| world | prunable weights | batch | ms a step | of a bare loop | memory | data |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        call = [sys.executable, __file__, "--here", name]
        found = json.loads(subprocess.run(call, check=True, capture_output=True).stdout)
        print(
            f"| `{name}` | {found['weights']:,} | {found['batch']} | {1e3 * found['seconds']:.3g} "
            f"| {found['ratio']:.2f} x | {found['memory'] / 1e6:,.0f} MB "
            f"| {found['data'] / 1e6:,.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
