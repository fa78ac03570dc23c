"""Size of a large study's report, and how long a browser takes to open it.

    python benchmarks/report.py

Trains a real study of 5 seeds, 4 arms and 16 rounds, controls at all of them: LeNet-300-100 on
images of 28 x 28 that are drawn here. Prints how long the page took to write, its bytes, and, where
Chromium is installed, the seconds until its charts are drawn, opened offline from the file (best
and median of several openings, for other work on the machine only adds). Exit status 1 when the
page has 8 MB or more, or its best opening takes 2 s or longer.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import tombola as tb
from tombola.lab.study import Study
from tombola.world.models import LeNet

MOST_BYTES = 8_000_000
MOST_SECONDS = 2.0
ROUNDS = 15  # and round 0, the whole network


def world(steps: int) -> tb.World:
    """Ten smooth random prototypes under noise, read as 784 pixels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(10, 1, 7, 7, generator=generator)
    prototypes = torch.nn.functional.interpolate(coarse, size=28, mode="bilinear").flatten(1)
    targets = torch.arange(900) % 10
    inputs = prototypes[targets] + 0.5 * torch.randn(900, 784, generator=generator)
    parts = {"train": slice(600), "validation": slice(600, 700), "test": slice(700, 900)}
    whole = tb.worlds.WORLDS["digits"]()
    return replace(
        whole,
        name="drawn",
        model=lenet,
        **{name: (inputs[part], targets[part]) for name, part in parts.items()},
        steps=steps,
        evaluate_every=1,
        judged_density=0.1,
    )


def lenet() -> LeNet:
    """784-300-100-10."""
    return LeNet(784, 300, 100, 10)


def study(options: argparse.Namespace, store: Path) -> Study:
    recipe = replace(tb.recipes.IMP, schedule=tb.LayerRates(rounds=ROUNDS))
    return tb.find(
        recipe,
        world(options.steps),
        seeds=options.seeds,
        controls_at="all",
        jobs=options.jobs,
        store=store,
    )


def openings(page: Path, times: int) -> list[float]:
    """Seconds from the request of the page until its charts stand."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return []
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(times):
            context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
            tab = context.new_page()
            tab.goto(page.resolve().as_uri())
            tab.wait_for_selector("html[data-ready]")
            found.append(tab.evaluate("performance.getEntriesByName('ready')[0].startTime") / 1e3)
            context.close()
        browser.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120, help="of each training")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--openings", type=int, default=7)
    parser.add_argument("--store", type=Path, help="keep the study here (default: thrown away)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = study(options, options.store or Path(folder, "store"))
        began = time.perf_counter()
        page = tb.report(made)
        took, size = time.perf_counter() - began, page.stat().st_size
        print(f"{len(made.rows)} rows, {len(made.facts['trials'])} trials: {size / 1e6:.2f} MB")
        print(f"written in {took:.2f} s")
        seconds = openings(page, options.openings)
    if not seconds:
        print("no Chromium here: not opened")
        return int(size >= MOST_BYTES)
    best, middle = min(seconds), statistics.median(seconds)
    print(f"charts drawn after {best:.2f} s (best), {middle:.2f} s (median of {len(seconds)})")
    passed = size < MOST_BYTES and best < MOST_SECONDS
    print("within 8 MB and 2 s" if passed else "TOO LARGE OR TOO SLOW")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
