"""What each cut by curvature takes: time, and the most memory, beside cutting by magnitude.

    python benchmarks/curvature.py [--on mnist-lenet] [--density 0.1] [--steps 800]

Each rule is tried in a process of its own, so that the memory is its own: the most resident at any
time, with the network, its data and torch in it. Time is that of one cut of a network trained for
`--steps` steps, by the clock, beside the same by magnitude; so run it on a quiet machine. The last
column is the loss on test data after the cut, nothing retrained.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

import tombola as tb
from tombola.lookup import find_world
from tombola.pieces.schedule import Target
from tombola.pieces.score import Snapshot
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train
from tombola.train.evaluate import evaluate
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.probe import NetworkProbe

RULES: dict[str, Callable[[], Any]] = {
    "magnitude": lambda: tb.ByScore(score=tb.Magnitude()),
    "obd": lambda: tb.ByScore(score=tb.OBD()),
    "fisher": lambda: tb.ByScore(score=tb.DiagonalFisher()),
    "woodfisher": tb.WoodFisher,
    "woodfisher, whole tensors": lambda: tb.WoodFisher(block=None),
    "woodfisher, single updates": lambda: tb.WoodFisher(update=tb.Update.SINGLE),
    "layerwise": tb.LayerwiseLeastSquares,
    "layerwise-erk": lambda: tb.LayerwiseLeastSquares(allocation=tb.ERK()),
}


def measure(name: str, on: str, density: float, steps: int) -> dict[str, float]:
    torch.set_num_threads(1)
    world = replace(find_world(on), steps=steps, evaluate_every=steps)
    start = Init(world=world, seed=0).run(NoDesk()).params.load()
    begin = Point(start, None, 0)
    end = Train(world, 0, begin, FULL, steps, world.objective).run(NoDesk()).params.load()
    at = Snapshot(start=start, end=end, mask=FULL, layers=world.layers)
    rule, probe = RULES[name](), NetworkProbe(world, 0)
    began = time.perf_counter()
    cut = rule.cut(at, probe, Target(round=1, density=density))
    seconds = time.perf_counter() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    left = cut.mask.apply(end if cut.params is None else cut.params)
    loss = evaluate(world.network(left), world, world.test)["loss"]
    return {"seconds": seconds, "gigabytes": most, "loss": loss}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", default="mnist-lenet", help="a world (default: mnist-lenet)")
    parser.add_argument("--density", type=float, default=0.1, help="fraction kept (default: .1)")
    parser.add_argument("--steps", type=int, default=800, help="of training (default: 800)")
    parser.add_argument("--rule", choices=RULES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rule:
        print(json.dumps(measure(options.rule, options.on, options.density, options.steps)))
        return 0
    print(f"{options.on}, {options.steps} steps, density {options.density:g}, one torch thread\n")
    print(f"{'rule':28} {'s':>8} {'GB at most':>11} {'test loss':>10}")
    for name in RULES:
        call = [sys.executable, __file__, *sys.argv[1:], "--rule", name]
        found = json.loads(subprocess.run(call, check=True, capture_output=True).stdout)
        row = f"{found['seconds']:8.1f} {found['gigabytes']:11.2f} {found['loss']:10.3f}"
        print(f"{name:28} {row}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
