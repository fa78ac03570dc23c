"""Neurons, channels and heads, with every tensor they are part of."""

from collections.abc import Callable
from dataclasses import dataclass

from tombola.errors import RecipeError
from tombola.values.layer import Layer
from tombola.values.units import Coupling, Role, Sets, in_scope


@dataclass(frozen=True, kw_only=True)
class Units:
    """What can be taken out of a network whole: outputs of a linear layer, channels, heads.

    given: sets named by hand (`tombola.coupled`), for networks that cannot be traced, or to cut
    some alone; None: those found by tracing. Only sets that are read by tensors in scope alone are
    cut, so that a unit that is cut does nothing and can be removed exactly.

    Source: the coupling of layers as in Fang et al. 2023, DepGraph (arXiv 2301.12900); found here
    on the traced operators, rather than by following autograd through a forward pass.

    Raises:
        RecipeError: what is given is no set of units, or two have one name.
    """

    given: Sets | None = None

    def __post_init__(self) -> None:
        names = [getattr(one, "name", None) for one in self.given or ()]
        if self.given is not None and (not names or None in names or len(set(names)) < len(names)):
            raise RecipeError(
                f"Units(given={names}): want sets of units with different names, each made by "
                "tombola.coupled(...)."
            )

    def sets(self, layers: tuple[Layer, ...], coupling: Callable[[], Coupling]) -> Sets:
        known = coupling() if self.given is None else Coupling(sets=self.given, held={})
        chosen = in_scope(known.sets, layers)
        if chosen:
            return chosen
        names = {layer.name for layer in layers}
        why = [f"{name}: {reason}" for name, reason in known.held.items() if name in names]
        why += [
            f"{one.name} is read by {sorted(beyond)}, out of scope"
            for one in known.sets
            if (beyond := set(one.tensors(Role.READ)) - names)
        ]
        raise RecipeError(
            "no units can be cut here: " + ("; ".join(why[:5]) or f"none of {sorted(names)}") + "."
        )
