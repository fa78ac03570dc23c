"""What an action is given and what it must return."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tombola.pieces.score.score import Need


@dataclass(frozen=True, kw_only=True)
class Site:
    """One prunable tensor, just after a cut; all of one shape.

    start: the initial values. end: the values that were cut. kept: bool, what the new mask keeps.
    stream: a generator for a named purpose, of this seed, round and tensor.
    """

    start: Tensor
    end: Tensor
    kept: Tensor
    stream: Callable[[str], torch.Generator]


class Action(Protocol):
    """A frozen dataclass; `tombola.testing.check_action` tests it."""

    @property
    def needs(self) -> frozenset[Need]: ...

    def __call__(self, at: Site) -> Tensor:
        """A new tensor like `at.start`: for every weight the value it would start from. The rule
        (`Restarting`) takes from it what it is asked for."""
        ...
