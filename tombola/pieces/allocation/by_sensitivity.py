"""Layers that mind being cut are cut less."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tombola.errors import RecipeError
from tombola.pieces.allocation.whole import whole_counts
from tombola.values.layer import Layer

Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class BySensitivity:
    """Cut all layers to where each, cut alone, would lose the same.

    curves: for each tensor, what the network loses when that tensor alone is cut: pairs (density,
    loss gained), from dense to sparse. Between two of them the loss is taken for a straight line,
    and for nothing at density 1; where a sparser cut costs less than a denser one did, for what the
    denser one did. A tensor is cut no further than its scan went, until all are; then all go on in
    proportion. So what the scan did not see is not made up.

    `BySensitivity.of` takes the table of the probe `sensitivity`, the mean over seeds. That scan is
    on validation data and cuts the smallest weights of one layer at a time, without retraining.

    Source: Han, Pool, Tran & Dally 2015 (arXiv 1506.02626), section 4 and figure 6, who find the
    threshold of each layer so, by hand. The same loss for all is our choice.

    Raises:
        RecipeError: a curve without a point, with densities outside (0, 1), not from dense to
            sparse, or with a loss that is not finite; a tensor without a curve.

    Example:
        >>> a, b = (Layer(name=n, shape=(100,), kind="linear", rate=.8) for n in "ab")
        >>> minds, does_not = ((.5, 1.0), (.1, 3.0)), ((.5, 0.0), (.1, 1.0))
        >>> BySensitivity(curves={"a": minds, "b": does_not}).counts((a, b), .5)
        {'a': 72, 'b': 28}
    """

    curves: Mapping[str, Curve]

    def __post_init__(self) -> None:
        for name, curve in self.curves.items():
            points = ((1.0, 0.0), *curve)
            falls = all(one[0] > two[0] > 0.0 for one, two in pairwise(points))
            finite = all(abs(loss) < float("inf") for _, loss in curve)
            if not curve or not falls or not finite:
                raise RecipeError(
                    f"BySensitivity: the curve of {name!r} is {curve}; want pairs (density, loss "
                    "gained), densities from under 1 down to over 0, losses finite."
                )

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], metric: str = "loss_change") -> "BySensitivity":
        """From the rows of the probe's table. metric: of those it has; of one that is better when
        higher, such as `accuracy_change`, what is lost is minus the change."""
        sign = 1.0 if metric == "loss_change" else -1.0
        curves: dict[str, dict[float, float]] = {}
        for row in rows:
            mean = row["metrics"][metric]["mean"]
            if mean is None:
                raise RecipeError(
                    f"BySensitivity: {metric} of {row['tensor']!r} at density {row['density']:g} "
                    "has no value; scan it at larger densities."
                )
            curves.setdefault(row["tensor"], {})[row["density"]] = sign * mean
        return cls(curves={name: tuple(sorted(of.items())[::-1]) for name, of in curves.items()})

    def counts(self, layers: tuple[Layer, ...], density: float) -> dict[str, int]:
        missing = [layer.name for layer in layers if layer.name not in self.curves]
        if missing:
            raise RecipeError(
                f"BySensitivity has no curve for {missing}; it has {sorted(self.curves)}. Scan the "
                "network it is for, or exclude those tensors in the recipe's scope."
            )
        points = {layer.name: _rising(self.curves[layer.name]) for layer in layers}
        # A millionth of the loss for what is cut, so that flat stretches are cut bit by bit.
        slope = 1e-6 * (max(curve[-1][1] for curve in points.values()) or 1.0)
        tilted = {n: tuple((d, x + slope * (1.0 - d)) for d, x in c) for n, c in points.items()}
        most = max(curve[-1][1] for curve in tilted.values())

        def shares(setting: float) -> dict[str, float]:
            """From 0 to 1 ever more of what a loss of `most` leaves; from 1 to 2 ever less loss."""
            loss, part = most * (2.0 - max(setting, 1.0)), min(setting, 1.0)
            return {la.name: part * la.count * _sparsest(tilted[la.name], loss) for la in layers}

        return whole_counts(layers, density, shares, 0.0, 2.0)


def _rising(curve: Curve) -> Curve:
    """With the loss of the whole first, and none below one before it."""
    points, most = [(1.0, 0.0)], 0.0
    for density, loss in curve:
        most = max(most, loss)
        points.append((density, most))
    return tuple(points)


def _sparsest(curve: Curve, loss: float) -> float:
    """The least density on the curve whose loss is no more than `loss`."""
    for (denser, below), (sparser, above) in reversed(list(pairwise(curve))):
        if above <= loss:
            return sparser
        if below <= loss:
            return sparser + (denser - sparser) * (above - loss) / (above - below)
    return 1.0
