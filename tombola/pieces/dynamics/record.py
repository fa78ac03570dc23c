"""Where a moving mask has been: rows for each tensor, among the dynamics' own state."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tombola.values.mask import count_of
from tombola.values.params import Params

SEEN, MOVED = "seen/", "moved/"

COLUMNS = ("step", "kept", "born", "died", "seen", "inputs")


def noted(
    state: Params, step: int, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> Params:
    """The state, with what an update did to the mask.

    Of each tensor that has moved, a row of `COLUMNS` for its start and for each update that moved
    it: connections kept, those new, those gone, how many positions have been kept at any time so
    far, and how many input units anything kept reads. seen / all positions is R_s of Liu et al.
    2021, In-Time Over-Parameterization (arXiv 2102.02887).

    Example:
        >>> one, other = torch.tensor([True, True, False]), torch.tensor([True, False, True])
        >>> moves_of(noted(Params({}), 100, {"w": one}, {"w": other}))
        {'w': [[0, 2, 0, 0, 2, 2], [100, 2, 1, 1, 3, 2]]}
    """
    found = {}
    for name, now in after.items():
        old = before[name]
        if not old.equal(now):
            seen = state.get(SEEN + name, old) | now
            rows = state.get(MOVED + name, _row(0, old, old, old))
            found[SEEN + name] = seen
            found[MOVED + name] = torch.cat([rows, _row(step, old, now, seen)])
    return state.replaced(found)


def moves_of(state: Mapping[str, Tensor]) -> dict[str, list[list[int]]]:
    """The rows, by tensor; none of one that never moved."""
    return {
        key.removeprefix(MOVED): rows.tolist()
        for key, rows in sorted(state.items())
        if key.startswith(MOVED)
    }


def _row(step: int, before: Tensor, after: Tensor, seen: Tensor) -> Tensor:
    born, died = count_of(after & ~before), count_of(before & ~after)
    return torch.tensor([[step, count_of(after), born, died, count_of(seen), _read(after)]])


def _read(kept: Tensor) -> int:
    """Places of the second dimension with anything kept; of a row, entries."""
    if kept.dim() < 2:
        return count_of(kept)
    read = kept.numpy().any(axis=0).reshape(kept.shape[1], -1)
    return int(np.count_nonzero(read.any(axis=1)))
