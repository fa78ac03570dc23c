"""Tensors at the world's rates, at any density."""

import math
from dataclasses import dataclass

from tombola.errors import RecipeError
from tombola.pieces.allocation.whole import whole_counts
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class ByRate:
    """A tensor whose kind of layer has rate q keeps q^x of its weights, x the same for all.

    x is the number of rounds, whole or not, after which `LayerRates` would have come to this
    density; so schedules that count all tensors together (`Geometric`, `Linear`, `Cubic`,
    `Densities`) can cut a network whose kinds of layer have rates of their own. Source for the
    rates: Frankle & Carbin 2019 (arXiv 1803.03635), section 2; their use at any density is ours.

    Raises:
        RecipeError: layers of rate 1, which are never cut, have more weights than are to be kept.

    Example:
        >>> fc = Layer(name="fc", shape=(100, 100), kind="linear", rate=.8)
        >>> out = Layer(name="out", shape=(10, 100), kind="output", rate=.9)
        >>> ByRate().counts((fc, out), (6_400 + 810) / 11_000)
        {'fc': 6400, 'out': 810}
    """

    def counts(self, layers: tuple[Layer, ...], density: float) -> dict[str, int]:
        whole = [layer.name for layer in layers if layer.rate >= 1.0]
        least = sum(layer.count for layer in layers if layer.rate >= 1.0)
        total = sum(layer.count for layer in layers)
        if least > density * total + 0.5:
            raise RecipeError(
                f"ByRate: {whole} have rate 1 and so keep their {least} weights, more than the "
                f"density {density:g} of {total}. Give them a rate below 1 in World(rates=...), or "
                "leave them out by World(unpruned=...)."
            )

        def shares(rounds_undone: float) -> dict[str, float]:
            return {layer.name: layer.count * layer.rate**-rounds_undone for layer in layers}

        # After so many rounds each tensor that is cut at all has a quarter of a weight left.
        most = max(
            (math.log(0.25 / la.count) / math.log(la.rate) for la in layers if la.rate < 1.0),
            default=0.0,
        )
        return whole_counts(layers, density, shares, -most, 0.0)
