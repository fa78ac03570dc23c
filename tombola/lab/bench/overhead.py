"""(f) What a study spends on anything else than steps and evaluations."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tombola.lab.bench.measure import Measured, rounded
from tombola.lab.engines.processes import load_compiler
from tombola.lab.store import Store
from tombola.lab.study import find
from tombola.pieces.rule import ByScore
from tombola.recipes.imp import IMP
from tombola.train import loop
from tombola.train.executors.dense import Dense
from tombola.train.executors.layered import Layered
from tombola.train.executors.sparse import Sparse
from tombola.values.params import Params
from tombola.world.world import World

PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "steps": ((Dense, "advance"), (Layered, "advance"), (Sparse, "advance")),
    "evaluations": (
        (Dense, "measure"),
        (Layered, "measure"),
        (Sparse, "measure"),
        (loop, "evaluate"),
    ),
    "store, read and written": ((Store, "record"), (Store, "recall"), (Store, "fetch")),
    "digests checked": ((Params, "rehash"),),
    "cuts": ((ByScore, "cut"),),
}


def overhead(world: World, steps: int = 2_000) -> Measured:
    """Shares of a study of one seed in this process: `dense`, ticket, reinit and shuffle at the
    judged round and two others."""
    short = replace(world, steps=steps, evaluate_every=min(world.evaluate_every or steps, steps))
    spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    load_compiler()  # once in a process, whatever it trains
    with tempfile.TemporaryDirectory() as folder, _watched(spent):
        began = time.perf_counter()
        find(IMP, short, seeds=1, jobs=1, store=folder)
        whole = time.perf_counter() - began
    spent["all else"] = whole - sum(spent.values())
    rows = tuple(
        {"part": part, "seconds": rounded(one), "share": f"{one / whole:.1%}"}
        for part, one in spent.items()
    )
    beside = 1.0 - (spent["steps"] + spent["evaluations"]) / whole
    return Measured(
        bench="overhead",
        world=world.name,
        about=f"a study of {whole:.1f} s with trainings of {steps} steps, in one process",
        rows=rows,
        notes=(f"beside steps and evaluations: {beside:.1%}",),
    )


@contextmanager
def _watched(spent: dict[str, float]) -> Iterator[None]:
    """Add up what calls of the parts take; a part inside another counts as the outer one."""
    inside = False

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal inside
            if inside:
                return function(*args, **named)
            inside, began = True, time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                inside = False
                spent[part] += time.perf_counter() - began

        return call

    with ExitStack() as stack:
        for part, places in PARTS.items():
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, watched(part, getattr(owner, name))))
        yield
