"""What a study would train, what is stored already, and about how long and how large it gets."""

from collections.abc import Mapping, Sequence
from typing import Any

from tombola.lab.pace import Pace, pace_of
from tombola.lab.question import Question
from tombola.lab.runner import Runner, Tally
from tombola.lab.store import Store
from tombola.recipes.job import Job, job_key
from tombola.recipes.jobs import Train
from tombola.recipes.recipe import Round
from tombola.world.world import World, initial_params

SECONDS_PER_JOB = 0.1  # a fork, its first operations, digests, files


def plan(question: Question, store: Store, *, jobs: int = 1, timed: bool = True) -> dict[str, Any]:
    """The document that `tombola plan --json` prints; nothing is trained for keeps.

    timed: make a few discarded steps to estimate seconds; else `seconds` is None.
    """
    runner = Runner(store, None)
    density = densities_of(runner.drive(question.loops()))
    return {
        "schema": 1,
        "study": question.digest,
        "recipe": question.recipe.name,
        "world": question.world.name,
        "seeds": list(question.seeds),
        "arms": ["ticket", *question.arms],
        "control_rounds": list(question.control_rounds),
        "judged_round": question.judged_round,
        **outlook(runner.tally, question.world, jobs=jobs, timed=timed, density=density),
        "store": str(store.folder),
    }


def densities_of(rounds: Mapping[Any, Sequence[Round]]) -> dict[str, float]:
    """What each training keeps, by key. rounds: what trials returned."""
    return {job_key(one.job): one.target.density for of in rounds.values() for one in of}


def outlook(
    tally: Tally,
    world: World,
    *,
    jobs: int,
    timed: bool = True,
    density: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What a planned drive takes: trainings, steps, seconds (None unless `timed`) and disk.

    density: of trainings, by key; those left out are of the whole network.
    """
    stored, trainings, known = tally.stored, trainings_of(tally), density or {}
    seconds: float | None = 0.0 if not trainings else None
    if timed and trainings:
        pace = pace_of(world, min(known.values(), default=1.0))
        seconds = seconds_of(tally, pace, jobs, known)
    return {
        "trainings": {"stored": _trainings(stored), "to_run": len(trainings)},
        "steps": {
            "stored": sum(job.steps for job in stored.values()),
            "to_train": sum(job.steps for job in trainings.values()),
        },
        "jobs": jobs,
        "seconds": seconds,
        "disk_bytes": disk_bytes(world, len(trainings)),
    }


def trainings_of(tally: Tally) -> dict[str, Train]:
    """Those to run, by key."""
    return {key: job for key, job in tally.run.items() if isinstance(job, Train)}


def seconds_of(tally: Tally, pace: Pace, jobs: int, density: Mapping[str, float]) -> float:
    """What the jobs to run take, so many at once. density: see `outlook`."""
    trainings = trainings_of(tally)
    work = sum(pace.of(training, density.get(key, 1.0)) for key, training in trainings.items())
    chain = work * tally.longest / max(1, sum(training.steps for training in trainings.values()))
    return round(max(work / jobs, chain) + SECONDS_PER_JOB * len(tally.run) / jobs, 1)


def _trainings(jobs: dict[str, Job]) -> int:
    return sum(isinstance(job, Train) for job in jobs.values())


def disk_bytes(world: World, trainings: int) -> int:
    """About what so many trainings add to a store: weights, a packed mask, a validation curve."""
    tensors = initial_params(world, 0)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert world.evaluate_every is not None
    curve = 140 * (world.steps // world.evaluate_every)
    return trainings * (weights + sum(t.numel() for t in tensors.values()) // 8 + curve + 4_000)
