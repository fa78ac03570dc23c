"""Runs a recipe's loop by itself: nothing stored, nothing side by side."""

from tombola.recipes.job import Loop, NoDesk, R


def drive(loop: Loop[R]) -> R:
    """What the loop returns, each job run when it is asked for."""
    answer = None
    while True:
        try:
            asked = loop.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(asked, tuple):
            answer = tuple(job.run(NoDesk()) for job in asked)
        else:
            answer = asked.run(NoDesk())
