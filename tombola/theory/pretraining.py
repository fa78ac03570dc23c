"""How much pre-training is enough: from which step on a subnetwork gains little by more of it."""

import math
from dataclasses import dataclass

from tombola.errors import CallError
from tombola.theory.descent import Rate
from tombola.theory.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Selection from a network that is trained for t steps: the bound of the two together.

    initial: l_D(0), the loss of the whole network before training. The dense loss is taken to fall
    as (1 - rho)^t l_D(0); see `Selection` for the rest.

    Source: Wolfe et al. 2021 (arXiv 2108.00259) for the question and its answer's form; the bound
    and its constants are derived here (see `Selection`).

    Example:
        >>> from tombola.theory import Rate
        >>> rate, selection = Rate(rho=0.01, assumes=""), Selection(variance=2.0, first=1.0)
        >>> bound = Pretraining(initial=0.5, selection=selection, rate=rate)
        >>> bound.threshold(200)  # ln(0.5 * 200 / (1 + ln 200)) / -ln(0.99) = 275.1
        276
    """

    initial: float
    selection: Selection
    rate: Rate

    def __post_init__(self) -> None:
        if not 0.0 < self.initial < math.inf:
            raise CallError(f"the initial loss is {self.initial:g}: want a number over 0.")

    def threshold(self, neurons: int) -> int:
        """The first step at which the dense loss adds no more to the bound than selection does.

        t*(k) = ln(l_D(0) k / (l_1 + (V/2) ln k)) / -ln(1 - rho), rounded up; 0 where it is negative
        ((k-1)/k is taken as 1, so it is never early). It grows with k: more neurons follow a better
        network further down.
        """
        own = self.selection.own(neurons)
        if own == 0.0:
            raise CallError(
                "the variance and the first loss are 0, so that every step of training helps: "
                "there is no threshold."
            )
        ahead = math.log(self.initial) - math.log(own)
        return max(0, math.ceil(ahead / -math.log1p(-self.rate.rho)))

    def dense(self, neurons: int, step: int) -> float:
        """The part of the bound on l_k that the dense loss at a step has."""
        return self.selection.share(neurons) * self.rate.loss(self.initial, step)

    def bound(self, neurons: int, step: int) -> float:
        """The bound on l_k after that many steps of pre-training."""
        return self.selection.own(neurons) + self.dense(neurons, step)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for these numbers, a sentence each."""
        first = (
            "the loss of the best single neuron is bounded by that of the network plus V/2"
            if self.selection.first is None
            else "the loss of the best single neuron is the one given, at every step"
        )
        return (
            "the loss is the squared error halved, averaged over the examples selected on",
            "the network is a mean of neurons (f = sum of phi_i / N), and so is the subnetwork",
            "each choice is the exact best of all neurons, which may be chosen again",
            "the variance V of the neurons is the one given, at every step",
            first,
            f"the dense loss falls as (1 - rho)^t: {self.rate.assumes}",
            "it is an upper bound: subnetworks may be better, and their loss saturate elsewhere",
        )
