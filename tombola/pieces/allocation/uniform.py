"""The same density everywhere."""

from dataclasses import dataclass

from tombola.pieces.allocation.whole import whole_counts
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """The same density in every tensor, as nearly as whole weights that add up exactly allow."""

    def counts(self, layers: tuple[Layer, ...], density: float) -> dict[str, int]:
        def shares(of: float) -> dict[str, float]:
            return {layer.name: of * layer.count for layer in layers}

        return whole_counts(layers, density, shares, 0.0, 1.0)
