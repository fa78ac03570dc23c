"""Shares of weights as whole numbers that add up to the total."""

from collections.abc import Callable, Mapping

from tombola.pieces.schedule import round_half_up
from tombola.values.layer import Layer


def whole_counts(
    layers: tuple[Layer, ...],
    density: float,
    shares: Callable[[float], Mapping[str, float]],
    low: float,
    high: float,
) -> dict[str, int]:
    """Shares rounded half up, at the setting at which they add up to round_half_up(density * all).

    shares: of each tensor, in weights, at a setting; they grow with it (a tensor takes no more than
    it has). low, high: settings at which they add up to no more, and no less, than the total.
    Tensors that gain a weight at the very same setting, as floats go, gain it in turn: the larger
    first, then by name.

    This is Webster's method of apportionment. Largest remainders keep each count within one weight
    of its share, but when the total falls they may give a tensor *more*, which no later mask could
    follow. Here no count grows as the density falls; that of a large tensor may be a few weights
    from its rounded share, never more than there are tensors.

    Example:
        >>> pair = tuple(Layer(name=n, shape=(c,), kind="linear", rate=.8)
        ...              for n, c in (("a", 5), ("b", 9)))
        >>> whole_counts(pair, .5, lambda d: {"a": 5 * d, "b": 9 * d}, 0, 1)
        {'a': 2, 'b': 5}
    """
    total = round_half_up(density * sum(layer.count for layer in layers))

    def rounded(setting: float) -> dict[str, int]:
        found = shares(setting)
        return {la.name: min(la.count, round_half_up(found[la.name])) for la in layers}

    while low < (middle := (low + high) / 2) < high:
        if sum(rounded(middle).values()) < total:
            low = middle
        else:
            high = middle
    counts, more = rounded(low), rounded(high)
    gaining = [layer for layer in layers if more[layer.name] > counts[layer.name]]
    gaining.sort(key=lambda layer: (-layer.count, layer.name))
    for layer in gaining[: total - sum(counts.values())]:
        counts[layer.name] += 1
    return counts
