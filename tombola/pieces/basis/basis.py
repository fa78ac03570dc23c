"""The contract of bases, and what a rule counts."""

from collections.abc import Callable
from typing import Protocol

from tombola.values.layer import Layer
from tombola.values.units import Coupling, Sets, counted_as


class Basis(Protocol):
    """A frozen dataclass with one method."""

    def sets(self, layers: tuple[Layer, ...], coupling: Callable[[], Coupling]) -> Sets:
        """The sets of units that can be cut by cutting weights of these tensors alone.

        coupling: gives the network's units, by tracing it.

        Raises:
            RecipeError: there are none, or a tensor does not divide into such units.
        """
        ...


def basis_of(rule: object) -> Basis | None:
    """What a rule counts units of; None for one that counts weights."""
    found: Basis | None = getattr(rule, "basis", None)
    return found


def counted(
    rule: object, layers: tuple[Layer, ...], coupling: Callable[[], Coupling]
) -> tuple[Layer, ...]:
    """What schedules, allocations and the rule's `asks` count: the tensors in scope, by weights, or
    the sets of the rule's basis, by units."""
    basis = basis_of(rule)
    if basis is None:
        return layers
    return tuple(counted_as(one, layers) for one in basis.sets(layers, coupling))
