"""How fast this machine trains, as ratios measured in one run: `tombola bench`."""

from collections.abc import Callable

from tombola.lab.bench.auto import auto
from tombola.lab.bench.layers import layers
from tombola.lab.bench.machine import machine
from tombola.lab.bench.measure import Measured
from tombola.lab.bench.memory import memory
from tombola.lab.bench.moving import moving
from tombola.lab.bench.overhead import overhead
from tombola.lab.bench.scaling import scaling
from tombola.lab.bench.step import step
from tombola.lab.bench.study import study

BENCHES: dict[str, Callable[..., Measured]] = {
    "step": step,
    "layers": layers,
    "study": study,
    "scaling": scaling,
    "machine": machine,
    "memory": memory,
    "overhead": overhead,
    "moving": moving,
}

__all__ = [
    "BENCHES",
    "auto",
    "layers",
    "machine",
    "memory",
    "moving",
    "overhead",
    "scaling",
    "step",
    "study",
]
