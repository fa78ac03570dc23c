"""The contract of allocations, and the one that leaves all to the scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tombola.pieces.schedule import round_half_up
from tombola.values.layer import Layer


class Allocation(Protocol):
    """A frozen dataclass with one method."""

    def counts(self, layers: tuple[Layer, ...], density: float) -> Mapping[str, int] | int:
        """How many weights each tensor keeps, or one total for which all tensors compete.

        The counts add up to round_half_up(density * all weights), and none of them grows when the
        density falls, so that masks of later rounds can be cut from those before.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Global:
    """All tensors compete in one ranking; ties go to the earlier tensor, then the lower index."""

    def counts(self, layers: tuple[Layer, ...], density: float) -> int:
        return round_half_up(density * sum(layer.count for layer in layers))
