"""Epochs become steps in one place."""

import pytest

from tombola.errors import WorldError
from tombola.values.steps import epochs, steps_per_epoch


@pytest.mark.parametrize(
    ("examples", "batch", "steps"),
    [
        (1077, 60, 17),
        (60, 60, 1),
        (61, 60, 1),
        (119, 60, 1),
        (120, 60, 2),
        (1, 1, 1),
        (55_000, 60, 916),
    ],
)
def test_only_full_batches_count(examples: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(examples, batch) == steps
    assert epochs(1, examples, batch) == steps
    assert epochs(3, examples, batch) == 3 * steps
    assert epochs(0, examples, batch) == 0
    assert isinstance(epochs(0.5, examples, batch), int)


@pytest.mark.parametrize("batch", [0, -1, 11])
def test_a_batch_that_cannot_be_filled_is_refused(batch: int) -> None:
    with pytest.raises(WorldError, match=f"batch_size={batch} with 10 .* want 1 to 10"):
        steps_per_epoch(10, batch)
