"""How a density is shared out among tensors, for targets that do not set counts themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tombola.pieces.schedule import round_half_up
from tombola.values.layer import Layer


class Allocation(Protocol):
    """A frozen dataclass with one method."""

    def counts(self, layers: tuple[Layer, ...], density: float) -> Mapping[str, int] | int:
        """How many weights each tensor keeps, or one total for which all tensors compete."""
        ...


@dataclass(frozen=True, kw_only=True)
class Global:
    """All tensors compete in one ranking; ties go to the earlier tensor, then the lower index."""

    def counts(self, layers: tuple[Layer, ...], density: float) -> int:
        return round_half_up(density * sum(layer.count for layer in layers))


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """The same density in every tensor."""

    def counts(self, layers: tuple[Layer, ...], density: float) -> dict[str, int]:
        return {layer.name: round_half_up(density * layer.count) for layer in layers}


@dataclass(frozen=True, kw_only=True)
class ERK:
    """Erdős-Rényi kernel: density of a tensor in proportion to (sum of its shape) / (product).

    A tensor that would be over-full is kept whole and the rest shared again; where several attain
    the maximum, all of them become dense in one pass. Source: Evci et al. 2020 (arXiv 1911.11134),
    section 3, and the authors' `sparse_utils.py` for the loop. Differs: counts are rounded half up
    (theirs truncates the zeros), so a tensor may differ by one weight.

    Example:
        >>> fc = [Layer(name=f"l{i}", shape=s, kind="linear", rate=.8)
        ...       for i, s in enumerate([(300, 784), (100, 300), (10, 100)])]
        >>> [round(d, 4) for d in ERK().densities(tuple(fc), .1).values()]
        [0.0796, 0.2302, 1.0]
    """

    def densities(self, layers: tuple[Layer, ...], density: float) -> dict[str, float]:
        """Fraction kept of each tensor."""
        raw = {layer.name: sum(layer.shape) / layer.count for layer in layers}
        dense: set[str] = set()
        while len(dense) < len(raw):
            open_layers = [layer for layer in layers if layer.name not in dense]
            budget = density * sum(layer.count for layer in layers)
            budget -= sum(layer.count for layer in layers if layer.name in dense)
            factor = budget / sum(sum(layer.shape) for layer in open_layers)
            largest = max(raw[layer.name] for layer in open_layers)
            if largest * factor <= 1.0:
                return {name: 1.0 if name in dense else factor * raw[name] for name in raw}
            dense |= {layer.name for layer in open_layers if raw[layer.name] == largest}
        return dict.fromkeys(raw, 1.0)

    def counts(self, layers: tuple[Layer, ...], density: float) -> dict[str, int]:
        share = self.densities(layers, density)
        return {layer.name: round_half_up(share[layer.name] * layer.count) for layer in layers}
