"""A study that is to take so many minutes: how many steps that is, decided before it is asked."""

import math
from dataclasses import replace
from tempfile import TemporaryDirectory

from tombola.errors import CallError
from tombola.lab.pace import Pace, pace_of
from tombola.lab.plan import densities_of, seconds_of
from tombola.lab.question import Question
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.recipes.worlds import varied

LEAST = 10  # steps of a training, below which nothing is learned


def within(
    question: Question, minutes: float, *, jobs: int = 1, pace: Pace | None = None
) -> Question:
    """The question with trainings as long as fit into so many minutes on this machine, all of them
    together; at most as long as its world's.

    A few discarded steps are timed, once, now. What comes out is an ordinary question about an
    ordinary world, `varied(world, steps=N)`: its name says N, and asked so again it is the same
    study on any machine, whatever the clock says there. N has two digits. What is stored already
    does not count, so that the answer is the same the second time but for the timing.

    pace: how fast the world is, where that is known.

    Raises:
        CallError: no number of minutes, or not even a short training fits.
    """
    if not (isinstance(minutes, (int, float)) and 0 < minutes < math.inf):
        raise CallError(f"minutes={minutes!r}: want a number over 0.")
    pace = pace_of(question.world, question.targets[-1].density) if pace is None else pace
    whole, most = question.world.steps, 60 * minutes
    needed = _seconds(question, pace, jobs)
    if needed <= most:
        return question
    # Time is a line in steps, but for readings that fall between: two points give it.
    half = _asked(question, max(1, whole // 2))
    slope = (needed - _seconds(half, pace, jobs)) / (whole - half.world.steps)
    steps = _two_digits(whole - (needed - most) / max(slope, 1e-12))
    least = max(LEAST, question.recipe.rewind.step + 1)
    while steps >= least:
        found = _asked(question, steps)
        if _seconds(found, pace, jobs) <= most:
            return found
        steps = _two_digits(0.95 * steps)
    raise CallError(
        f"{minutes:g} minutes are too few for {question.recipe.name} on {question.world.name} with "
        f"{len(question.seeds)} seeds: fewer than {least} steps a training would fit. Give it more "
        "time, or ask for fewer seeds, arms or rounds."
    )


def _asked(question: Question, steps: int) -> Question:
    return replace(question, world=varied(question.world, steps=steps))


def _seconds(question: Question, pace: Pace, jobs: int) -> float:
    """Of all its trainings, as if none were stored."""
    with TemporaryDirectory() as empty:
        runner = Runner(Store(empty, create=False), None)
        return seconds_of(runner.tally, pace, jobs, densities_of(runner.drive(question.loops())))


def _two_digits(value: float) -> int:
    """Rounded down.

    >>> _two_digits(1234.5), _two_digits(87.2), _two_digits(3.0)
    (1200, 87, 3)
    """
    number = max(0, int(value))
    zeros = max(0, len(str(number)) - 2)
    return number - number % int(10**zeros)
