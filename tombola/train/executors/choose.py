"""Which executor makes the steps of a training."""

from collections.abc import Callable
from dataclasses import dataclass

from tombola.train.executors.dense import Dense
from tombola.train.executors.executor import Executor
from tombola.train.leg import Leg
from tombola.train.training import Training
from tombola.values.params import Params


@dataclass(frozen=True)
class Choice:
    """name: what is recorded. build: from a training, its start, and what it goes on from.
    instead: why not the executor that was asked for, None where it is."""

    name: str
    build: Callable[[Training, Params, Leg | None], Executor]
    instead: str | None = None


def chosen(training: Training) -> Choice:
    """The executor of a training: a pure function of what is trained, never of a timing."""
    return Choice(Dense.name, Dense)
