"""What a study would train, what is stored already, and about how long and how large it gets."""

import time
from dataclasses import replace
from typing import Any

from tombola.lab.question import Question
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.recipes.job import Job
from tombola.recipes.jobs import Train
from tombola.train.evaluate import evaluate
from tombola.train.loop import Training, train
from tombola.values.mask import FULL
from tombola.world.world import World, initial_params

TRIED_STEPS = 100
SECONDS_PER_JOB = 0.1  # a fork, its first operations, digests, files


def plan(question: Question, store: Store, *, jobs: int = 1, timed: bool = True) -> dict[str, Any]:
    """The document that `tombola plan --json` prints; nothing is trained for keeps.

    timed: make a few discarded steps to estimate seconds; else `seconds` is None.
    """
    runner = Runner(store, None)
    runner.drive(question.loops())
    waiting, stored = runner.tally.run, runner.tally.stored
    trainings = [job for job in waiting.values() if isinstance(job, Train)]
    seconds: float | None = 0.0 if not trainings else None
    if timed and trainings:
        per_step = seconds_per_step(question.world)
        steps = sum(job.steps for job in trainings)
        seconds = max(steps / jobs, runner.tally.longest) * per_step
        seconds = round(seconds + SECONDS_PER_JOB * len(waiting) / jobs, 1)
    return {
        "schema": 1,
        "study": question.digest,
        "recipe": question.recipe.name,
        "world": question.world.name,
        "seeds": list(question.seeds),
        "arms": ["ticket", *question.arms],
        "control_rounds": list(question.control_rounds),
        "judged_round": question.judged_round,
        "trainings": {"stored": _trainings(stored), "to_run": len(trainings)},
        "steps": {
            "stored": sum(job.steps for job in stored.values()),
            "to_train": sum(job.steps for job in trainings),
        },
        "jobs": jobs,
        "seconds": seconds,
        "disk_bytes": disk_bytes(question.world, len(trainings)),
        "store": str(store.folder),
    }


def _trainings(jobs: dict[str, Job]) -> int:
    return sum(isinstance(job, Train) for job in jobs.values())


def seconds_per_step(world: World) -> float:
    """Measured on a few discarded steps, evaluations at the world's interval included."""
    tried = replace(world, steps=TRIED_STEPS + 1, evaluate_every=TRIED_STEPS + 1)
    training = Training(
        world=tried,
        seed=0,
        params=initial_params(world, 0),
        mask=FULL,
        step=0,
        until=5,
        objective=world.objective,
    )
    train(training)  # first calls are slow
    began = time.perf_counter()
    train(replace(training, until=TRIED_STEPS))
    per_step = (time.perf_counter() - began) / TRIED_STEPS
    with world.numerics.in_force():
        began = time.perf_counter()
        evaluate(world.new_network(0), world, world.validation)
        per_evaluation = time.perf_counter() - began
    assert world.evaluate_every is not None
    return per_step + per_evaluation / world.evaluate_every


def disk_bytes(world: World, trainings: int) -> int:
    """About what so many trainings add to a store: weights, a packed mask, a validation curve."""
    tensors = initial_params(world, 0)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert world.evaluate_every is not None
    curve = 140 * (world.steps // world.evaluate_every)
    return trainings * (weights + sum(t.numel() for t in tensors.values()) // 8 + curve + 4_000)
