"""What a study would train, what is stored already, and about how long and how large it gets."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from tombola.lab.question import Question
from tombola.lab.runner import Runner, Tally
from tombola.lab.store import Store
from tombola.recipes.job import Job
from tombola.recipes.jobs import Train
from tombola.train.evaluate import evaluate
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.mask import FULL
from tombola.world.world import World, initial_params

TRIED_SECONDS = 0.3
MOST_TRIED = 100  # steps
TRIED_EXAMPLES = 256
SECONDS_PER_JOB = 0.1  # a fork, its first operations, digests, files


def plan(question: Question, store: Store, *, jobs: int = 1, timed: bool = True) -> dict[str, Any]:
    """The document that `tombola plan --json` prints; nothing is trained for keeps.

    timed: make a few discarded steps to estimate seconds; else `seconds` is None.
    """
    runner = Runner(store, None)
    runner.drive(question.loops())
    return {
        "schema": 1,
        "study": question.digest,
        "recipe": question.recipe.name,
        "world": question.world.name,
        "seeds": list(question.seeds),
        "arms": ["ticket", *question.arms],
        "control_rounds": list(question.control_rounds),
        "judged_round": question.judged_round,
        **outlook(runner.tally, question.world, jobs=jobs, timed=timed),
        "store": str(store.folder),
    }


def outlook(tally: Tally, world: World, *, jobs: int, timed: bool = True) -> dict[str, Any]:
    """What a planned drive takes: trainings, steps, seconds (None unless `timed`) and disk."""
    stored, trainings = tally.stored, trainings_of(tally)
    seconds: float | None = 0.0 if not trainings else None
    if timed and trainings:
        seconds = seconds_of(tally, pace_of(world), jobs)
    return {
        "trainings": {"stored": _trainings(stored), "to_run": len(trainings)},
        "steps": {
            "stored": sum(job.steps for job in stored.values()),
            "to_train": sum(job.steps for job in trainings),
        },
        "jobs": jobs,
        "seconds": seconds,
        "disk_bytes": disk_bytes(world, len(trainings)),
    }


def trainings_of(tally: Tally) -> list[Train]:
    """Those to run."""
    return [job for job in tally.run.values() if isinstance(job, Train)]


def seconds_of(tally: Tally, pace: "Pace", jobs: int) -> float:
    """What the jobs to run take, so many at once."""
    trainings = trainings_of(tally)
    work = sum(pace.of(training) for training in trainings)
    chain = work * tally.longest / max(1, sum(training.steps for training in trainings))
    return round(max(work / jobs, chain) + SECONDS_PER_JOB * len(tally.run) / jobs, 1)


def _trainings(jobs: dict[str, Job]) -> int:
    return sum(isinstance(job, Train) for job in jobs.values())


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a world is on this machine, in seconds: a step of training, and the evaluation of
    one example."""

    step: float
    example: float

    def of(self, training: Train) -> float:
        """Seconds of one training: its steps, its validation curve, the test split twice."""
        world = training.world
        assert world.evaluate_every is not None
        readings = training.steps // world.evaluate_every
        examples = readings * len(world.validation) + 2 * len(world.test)
        return training.steps * self.step + examples * self.example


def pace_of(world: World) -> Pace:
    """Measured on discarded steps and examples, in about a second."""
    many = replace(world, steps=MOST_TRIED + 1, evaluate_every=MOST_TRIED + 1)
    start = Training(
        world=many,
        seed=0,
        params=initial_params(world, 0),
        mask=FULL,
        step=0,
        until=1,
        objective=world.objective,
    )
    tried, once = 1, _seconds(lambda: train(start))
    once = min(once, _seconds(lambda: train(start)))  # first calls are slow
    spent = once
    while spent < TRIED_SECONDS and tried < MOST_TRIED:
        tried = min(4 * tried, MOST_TRIED)
        longer = replace(start, until=tried)
        spent = _seconds(lambda: train(longer))  # noqa: B023 (called at once)
    step = (spent - once) / (tried - 1) if tried > 1 else once
    few = world.validation.part(torch.arange(min(TRIED_EXAMPLES, len(world.validation))))
    with world.numerics.in_force():
        network = world.new_network(0)
        evaluation = _seconds(lambda: evaluate(network, world, few))
    return Pace(step=step, example=evaluation / len(few))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def disk_bytes(world: World, trainings: int) -> int:
    """About what so many trainings add to a store: weights, a packed mask, a validation curve."""
    tensors = initial_params(world, 0)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert world.evaluate_every is not None
    curve = 140 * (world.steps // world.evaluate_every)
    return trainings * (weights + sum(t.numel() for t in tensors.values()) // 8 + curve + 4_000)
