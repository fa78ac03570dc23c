"""How fast an exported network is beside the dense one: by turns, in one run, on one thread."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from tombola.errors import CallError
from tombola.lab.bench.measure import rounded
from tombola.world.batch import nested
from tombola.world.calling import called
from tombola.world.data.split import Split
from tombola.world.world import World

Compute = Callable[[Any], Any]

TURNS = 15
RANK = 3  # of 15 turns, the 4th and the 12th lie about the median with confidence .965
TURN = 4e-3  # seconds at least, or a clock shows its own cost
BATCHES = (1, 64)


def batches_of(text: str) -> tuple[int, ...]:
    """Sizes as written on the command line.

    >>> batches_of("1,64")
    (1, 64)
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise CallError(f"--batch {text!r}: want sizes, 1 or more, for example 1,64.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def compared(
    exported: Compute, dense: nn.Module, world: World, batches: Sequence[int]
) -> list[dict[str, Any]]:
    """A row for each size: microseconds of both, and the ratio of dense to exported with the
    interval of its median at .965 over n turns, each of which did both."""
    rows = []
    for size in batches:
        inputs = inputs_of(world, size)
        turns = by_turns({"dense": partial(called, dense.eval()), "exported": exported}, inputs)
        ratios = sorted(a / b for a, b in zip(turns["dense"], turns["exported"], strict=True))
        own = statistics.median(turns["exported"])
        rows.append(
            {
                "batch": size,
                "microseconds": rounded(own * 1e6),
                "dense_microseconds": rounded(statistics.median(turns["dense"]) * 1e6),
                "examples_per_second": rounded(size / own),
                "ratio": rounded(statistics.median(ratios)),
                "low": rounded(ratios[RANK]),
                "high": rounded(ratios[-1 - RANK]),
                "n": len(ratios),
            }
        )
    return rows


def by_turns(
    works: Mapping[str, Compute], inputs: Any, turns: int = TURNS
) -> dict[str, list[float]]:
    """Seconds of one call of each, turn by turn, on one torch thread.

    Of processor time: where nothing else runs that is what a clock shows, and where others take the
    processor in between it still is.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    with one_thread(), torch.no_grad():
        calls = {name: _calls(work, inputs) for name, work in works.items()}
        for _ in range(turns):
            for name, work in works.items():
                work(inputs)  # as warm as in a row of calls
                began = time.process_time()
                for _ in range(calls[name]):
                    work(inputs)
                taken[name].append((time.process_time() - began) / calls[name])
    return taken


def _calls(work: Compute, inputs: Any) -> int:
    """How many make a turn."""
    work(inputs)
    began = time.process_time()
    work(inputs)
    return max(1, math.ceil(TURN / max(time.process_time() - began, 1e-6)))


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def inputs_of(world: World, count: int) -> Any:
    """So many examples of the test split as the network sees them, repeated where it has fewer."""
    return batch_of(world, world.test, count).inputs


def batch_of(world: World, split: Split, count: int) -> Any:
    batch = world.batch(split, torch.arange(count) % len(split))
    return type(batch)(nested(lambda t: t.contiguous(), batch.inputs), batch.targets, batch.index)
