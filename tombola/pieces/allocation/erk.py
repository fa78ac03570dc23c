"""Erdős-Rényi kernel: small tensors are kept denser than large ones."""

from dataclasses import dataclass

from tombola.pieces.allocation.whole import whole_counts
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class ERK:
    """Density of a tensor in proportion to (sum of its shape) / (product of its shape).

    A tensor that would be over-full is kept whole and the rest shared again; where several attain
    the maximum, all of them become dense in one pass. Source: Evci et al. 2020 (arXiv 1911.11134),
    section 3, and the authors' `sparse_utils.py` for the loop. Differs: counts are rounded half up
    so that they add up (theirs truncates the zeros of each tensor), so some may be a few weights
    apart.

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
        def shares(factor: float) -> dict[str, float]:
            return {layer.name: factor * sum(layer.shape) for layer in layers}

        all_dense = max(layer.count / sum(layer.shape) for layer in layers)
        return whole_counts(layers, density, shares, 0.0, all_dense)
