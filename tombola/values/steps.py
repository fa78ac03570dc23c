"""Training time is an `int` number of optimiser steps; epochs are converted here alone."""

from tombola.errors import WorldError


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Full batches in one pass; the incomplete last batch of each pass is left out.

    >>> steps_per_epoch(1077, 60)
    17
    """
    if not 0 < batch_size <= examples:
        raise WorldError(
            f"batch_size={batch_size} with {examples} training examples: want 1 to {examples}."
        )
    return examples // batch_size


def epochs(number: float, examples: int, batch_size: int) -> int:
    """`number` passes over the data, in steps.

    >>> epochs(2, 1077, 60)
    34
    """
    return round(number * steps_per_epoch(examples, batch_size))
