"""How good a subnetwork of k neurons is that was built up greedily: an upper bound."""

import math
from dataclasses import dataclass

from tombola.errors import CallError

MOST = 10**12  # neurons: no network has more, and their number stays exact as a float


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The bound on the loss l_k after k greedy choices, of a network that is a mean of neurons.

    f = (1/N) sum_i phi_i, loss l = mean |f - y|^2 / 2 over the data. Each choice takes the neuron
    that makes the loss of the mean of all chosen so far the least; a neuron may be chosen again.
    With l_D the loss of all N neurons,

        l_k <= l_1/k + ((k-1)/k) l_D + (V/(2k)) ln k,    l_1 <= l_D + V/2.

    variance: V = mean_i mean |phi_i - f|^2, how far neurons lie from their mean. first: l_1, the
    loss of the best single neuron; None stands for the bound on it.

    Why: the best choice is no worse than the mean over all neurons, which is
    |(k (f_k - y) + f - y)/(k+1)|^2 + V/(k+1)^2; convexity gives (k+1) l_(k+1) <= k l_k + l_D +
    V/(2(k+1)), and that is summed. Source: Ye et al. 2020 (arXiv 2003.01794) for the idea. Theirs
    has no logarithm, and faster rates where y is well inside the hull of the neurons; this one
    wants no such assumption.

    Raises:
        CallError: a variance below 0, or a loss below 0.

    Example:
        >>> round(Selection(variance=2.0, first=1.0).bound(10, dense=0.1), 4)
        0.4203
    """

    variance: float
    first: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("variance", self.variance), ("first", self.first)):
            if value is not None and not 0.0 <= value < math.inf:
                raise CallError(f"Selection({what}={value}): want a number, 0 or more.")

    def own(self, neurons: int) -> float:
        """The part of the bound that training the whole network longer does not lower."""
        if not 1 <= neurons <= MOST:
            raise CallError(f"{neurons:.6g} neurons: want a whole number, 1 to {MOST:g}.")
        first = self.variance / 2 if self.first is None else self.first
        return (first + self.variance / 2 * math.log(neurons)) / neurons

    def share(self, neurons: int) -> float:
        """How much of the dense loss is in the bound: (k-1)/k, or 1 where l_1 is bounded too."""
        return 1.0 if self.first is None else (neurons - 1) / neurons

    def bound(self, neurons: int, dense: float) -> float:
        """The bound on l_k for a dense loss l_D."""
        return self.own(neurons) + self.share(neurons) * dense
