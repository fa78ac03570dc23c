"""How fast training lowers the loss of the whole network: l(t) <= (1 - rho)^t l(0), and its rho."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import CallError


@dataclass(frozen=True, kw_only=True)
class Rate:
    """rho, in (0, 1): the fraction of the loss that a step takes away. assumes: what must hold for
    it, in a sentence.

    Raises:
        CallError: a rho outside (0, 1).
    """

    rho: float
    assumes: str

    def __post_init__(self) -> None:
        if not 0.0 < self.rho < 1.0:
            raise CallError(
                f"rho is {self.rho:g} here; want the fraction of the loss that one step takes "
                "away, between 0 and 1, neither included."
            )

    def loss(self, initial: float, step: int) -> float:
        """(1 - rho)^t l(0), from l(0) and t."""
        return initial * math.exp(step * math.log1p(-self.rho))


def fitted(curve: Mapping[int, float]) -> Rate:
    """The rho of the exponential through the first point that fits a loss curve best.

    curve: step -> loss, the earliest step being the start; least squares of the logarithms. The
    curve may lie above what is fitted; `upheld` never does.

    Raises:
        CallError: fewer than two points, a loss that is not positive, a curve that does not fall.

    Example:
        >>> round(fitted({0: 1.0, 10: 0.5, 20: 0.25}).rho, 4), round(1 - 0.5 ** 0.1, 4)
        (0.067, 0.067)
    """
    falls = _falls(curve)
    slope = sum(t * fall for t, fall in falls.items()) / sum(t * t for t in falls)
    above = max(math.exp(fall - t * slope) for t, fall in falls.items())
    return Rate(
        rho=_rho(slope),
        assumes="the loss curve goes on as the exponential fitted to it, which it exceeds by up "
        f"to a factor of {max(above, 1.0):.3g}",
    )


def upheld(curve: Mapping[int, float]) -> Rate:
    """The largest rho with which l(t) <= (1 - rho)^t l(0) at every point of a loss curve.

    Arguments and errors as of `fitted`.

    Example:
        >>> round(upheld({0: 1.0, 1: 0.5, 2: 0.3}).rho, 4), round(1 - 0.3 ** 0.5, 4)
        (0.4523, 0.4523)
    """
    falls = _falls(curve)
    return Rate(
        rho=_rho(max(fall / t for t, fall in falls.items())),
        assumes=f"the loss goes on falling as fast as it did on average up to step "
        f"{min(curve) + max(falls, key=lambda t: falls[t] / t):,}, where it was slowest",
    )


def _falls(curve: Mapping[int, float]) -> dict[int, float]:
    """Steps since the start -> logarithm of what is left of the loss."""
    if len(curve) < 2:
        raise CallError(
            f"a loss curve of {len(curve)} points: want two or more, the first at the start."
        )
    for step, loss in curve.items():
        if not 0.0 < loss < math.inf:
            raise CallError(f"the loss at step {step:,} is {loss:g}: want a number over 0.")
    start = min(curve)
    return {
        step - start: math.log(loss / curve[start]) for step, loss in curve.items() if step > start
    }


def _rho(slope: float) -> float:
    if slope >= 0.0:
        raise CallError("the loss curve does not fall, so it has no rho.")
    return -math.expm1(slope)


def kernel_rate(lr: float, eigenvalue: float) -> Rate:
    """rho = lr * lambda / 2, in the regime where features hardly move.

    lr: learning rate of gradient descent on |f - y|^2 / 2 *summed* over the examples; divide that
    of a mean by their number. eigenvalue: lambda, the least one of the neural tangent kernel on
    them (`relu_kernel`).

    Source: Du, Zhai, Poczos & Singh 2019 (arXiv 1810.02054), for two-layer ReLU networks that are
    wide enough.

    >>> kernel_rate(0.01, 0.5).rho
    0.0025
    """
    for what, value in (("learning rate", lr), ("eigenvalue", eigenvalue)):
        if not value > 0.0:
            raise CallError(f"the {what} is {value:g}: want a number over 0.")
    return Rate(
        rho=lr * eigenvalue / 2,
        assumes="full-batch gradient descent with a small rate on a network so wide that its "
        "tangent kernel keeps that least eigenvalue",
    )


def relu_kernel(inputs: Tensor) -> Tensor:
    """The tangent kernel of the first layer of an infinitely wide two-layer ReLU network.

    inputs: (m, d) of length 1 each, and no two parallel, else the least eigenvalue is 0. Returns
    (m, m) float64, x.z (pi - arccos(x.z)) / (2 pi); its least eigenvalue is the lambda of
    `kernel_rate` for f = N^(-1/2) sum_i a_i relu(w_i.x), a_i = +-1, w_i standard normal.

    Source: Du et al. 2019 (arXiv 1810.02054), equation for H^inf.

    Raises:
        CallError: inputs of another length.

    Example:
        >>> relu_kernel(torch.eye(2))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]], dtype=torch.float64)
    """
    rows = inputs.double()
    lengths = rows.norm(dim=1)
    if not bool((lengths - 1.0).abs().max() < 1e-4):
        raise CallError(
            f"inputs of length {float(lengths.min()):g} to {float(lengths.max()):g}: want each "
            "divided by its length."
        )
    cosines = (rows @ rows.T).clamp(-1.0, 1.0)
    return cosines * (torch.pi - torch.arccos(cosines)) / (2.0 * torch.pi)


def wide_rate(c: float, inputs: int, examples: int) -> Rate:
    """rho = c d / m^2, for d inputs and m examples; no theory says what the constant c is.

    Source: the form that Wolfe et al. 2021 (arXiv 2108.00259) take from an analysis of SGD on wide
    two-layer networks. Since -1/ln(1 - x) is about 1/x, thresholds then grow like (m^2 / (c d))
    times a logarithm.

    >>> wide_rate(1.0, 784, 1000).rho
    0.000784
    """
    for what, value in (("c", c), ("inputs", inputs), ("examples", examples)):
        if not value > 0:
            raise CallError(f"{what} is {value:g}: want a number over 0.")
    return Rate(
        rho=c * inputs / examples**2,
        assumes=f"the constant c is {c:g}, a guess: the theory does not say what it is",
    )
