"""The bounds against sums written out, brute-force selections and numbers worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from tombola.errors import CallError
from tombola.theory import (
    Pretraining,
    Rate,
    Selection,
    fitted,
    kernel_rate,
    relu_kernel,
    upheld,
    wide_rate,
)
from tombola.values.rng import stream


def draw(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def loss(u: Tensor, y: Tensor) -> float:
    """Halved squared error; mean over examples, sum over outputs."""
    return float((u - y).square().sum(1).mean()) / 2


@pytest.mark.parametrize("case", range(12))
def test_every_greedy_selection_stays_under_the_bound(case: int) -> None:
    neurons, y = draw(f"neurons {case}", 9, 6, 2), draw(f"targets {case}", 6, 2)
    if case % 3 == 1:
        y = neurons.mean(0)  # inside the hull, a dense loss of 0
    if case % 3 == 2:
        y = 5.0 + y  # far outside
    f = neurons.mean(0)
    variance = sum(float((phi - f).square().sum(1).mean()) for phi in neurons) / 9
    dense, total = loss(f, y), torch.zeros_like(f)
    first = min(loss(phi, y) for phi in neurons)
    assert first <= dense + variance / 2 + 1e-12
    for k in range(1, 60):
        total = min((total + phi for phi in neurons), key=lambda s: loss(s / k, y))
        found = loss(total / k, y)
        assert found <= Selection(variance=variance, first=first).bound(k, dense) + 1e-12
        assert found <= Selection(variance=variance).bound(k, dense) + 1e-12


def test_the_bound_is_the_recursion_summed_but_for_the_logarithm() -> None:
    variance, first, dense = 1.7, 0.9, 0.2
    k_times = first
    for k in range(2, 300):
        k_times += dense + variance / (2 * k)
        found = Selection(variance=variance, first=first).bound(k, dense)
        assert k_times / k <= found <= k_times / k + variance / (2 * k)


def test_threshold_by_hand_and_where_the_two_parts_meet() -> None:
    selection = Selection(variance=2.0, first=1.0)
    bound = Pretraining(initial=0.5, selection=selection, rate=Rate(rho=0.01, assumes=""))
    assert bound.threshold(200) == 276
    for k in (10, 50, 200, 10_000):
        at = bound.threshold(k)
        assert bound.rate.loss(0.5, at) <= selection.own(k) < bound.rate.loss(0.5, at - 1)
    thresholds = [bound.threshold(k) for k in (10, 50, 200, 1000)]
    assert thresholds == sorted(thresholds) and len(set(thresholds)) == 4
    assert bound.threshold(1) == 0  # 0.5 is below the first loss already
    assert bound.bound(50, 10**6) == pytest.approx(selection.own(50))
    assert bound.bound(50, 0) == pytest.approx(selection.bound(50, 0.5))


def test_threshold_without_a_first_loss_uses_its_bound() -> None:
    rate = Rate(rho=0.01, assumes="")
    bound = Pretraining(initial=0.5, selection=Selection(variance=2.0), rate=rate)
    assert bound.threshold(200) == math.ceil(
        math.log(0.5 * 200 / (1 + math.log(200))) / -math.log(0.99)
    )
    assert bound.bound(1, 0) == pytest.approx(0.5 + 1.0)


def test_fitted_and_upheld_rates() -> None:
    exact = {t: 3.0 * 0.98**t for t in (0, 5, 20, 100)}
    assert fitted(exact).rho == pytest.approx(0.02) == pytest.approx(upheld(exact).rho)
    bent = {10: 1.0, 20: 0.5, 40: 0.4, 110: 0.3}
    slow = upheld(bent)
    for step, value in bent.items():
        assert value <= slow.loss(1.0, step - 10) + 1e-12
    faster = Rate(rho=slow.rho * 1.001, assumes="")
    assert any(value > faster.loss(1.0, step - 10) for step, value in bent.items())
    best = fitted(bent)
    assert "step 110" in slow.assumes and slow.rho <= best.rho

    def misfit(rho: float) -> float:
        return sum(
            (math.log(v) - (t - 10) * math.log1p(-rho)) ** 2 for t, v in bent.items() if t > 10
        )

    assert misfit(best.rho) < min(misfit(best.rho * 0.999), misfit(best.rho * 1.001))
    above = max(v / best.loss(1.0, t - 10) for t, v in bent.items())
    assert f"factor of {above:.3g}" in best.assumes


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ({}, "0 points"),
        ({3: 1.0}, "1 points"),
        ({0: 1.0, 5: 0.0}, "step 5 is 0"),
        ({0: 1.0, 5: math.nan}, "step 5 is nan"),
        ({0: 1.0, 5: 1.0}, "does not fall"),
        ({0: 1.0, 5: 2.0}, "does not fall"),
    ],
)
def test_a_curve_without_a_rate_is_refused(curve: dict[int, float], message: str) -> None:
    for provider in (fitted, upheld):
        with pytest.raises(CallError, match=message):
            provider(curve)


def test_kernel_is_what_wide_networks_have() -> None:
    inputs = torch.nn.functional.normalize(draw("inputs", 5, 7))
    weights = draw("weights", 200_000, 7)
    open_ = (inputs @ weights.T > 0).double()
    sampled = (inputs @ inputs.T) * (open_ @ open_.T) / len(weights)
    torch.testing.assert_close(relu_kernel(inputs), sampled, rtol=0, atol=5e-3)
    assert float(torch.linalg.eigvalsh(relu_kernel(inputs))[0]) > 0
    with pytest.raises(CallError, match="divided by its length"):
        relu_kernel(2 * inputs)


def test_kernel_rate_bounds_gradient_descent_on_a_wide_network() -> None:
    """|f - y|^2 falls at least by the factor 1 - lr lambda / 2 at every step (Du et al. 2019)."""
    inputs, y, width = torch.nn.functional.normalize(draw("x", 6, 8)), draw("y", 6), 20_000
    weights, signs = draw("w", width, 8), draw("a", width).sign()
    least = float(torch.linalg.eigvalsh(relu_kernel(inputs))[0])
    rate = kernel_rate(lr=0.2, eigenvalue=least)
    initial = None
    for step in range(40):
        hidden = inputs @ weights.T
        error = hidden.relu() @ signs / width**0.5 - y
        now = float(error.square().sum())
        initial = now if initial is None else initial
        assert now <= rate.loss(initial, step) + 1e-12
        weights = weights - 0.2 * ((hidden > 0) * error[:, None] * signs).T @ inputs / width**0.5


def test_wide_rate_grows_with_inputs_and_falls_with_the_square_of_examples() -> None:
    base = wide_rate(0.5, 10, 100).rho
    assert base == pytest.approx(0.5 * 10 / 100**2)
    assert wide_rate(0.5, 20, 100).rho == pytest.approx(2 * base)
    assert wide_rate(0.5, 10, 200).rho == pytest.approx(base / 4)
    assert "guess" in wide_rate(0.5, 10, 100).assumes


def test_what_cannot_be_meant_is_refused() -> None:
    for rho in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(CallError, match="between 0 and 1"):
            Rate(rho=rho, assumes="")
    with pytest.raises(CallError, match=r"variance=-1"):
        Selection(variance=-1.0)
    with pytest.raises(CallError, match="0 neurons: want a whole number"):
        Selection(variance=1.0).own(0)
    with pytest.raises(CallError, match="between 0 and 1"):
        wide_rate(1.0, 784, 10)
    for wrong in (kernel_rate, lambda a, b: wide_rate(a, 1, 10)):
        with pytest.raises(CallError, match="over 0"):
            wrong(0.0, 1.0)
    rate = Rate(rho=0.1, assumes="")
    with pytest.raises(CallError, match="initial loss"):
        Pretraining(initial=0.0, selection=Selection(variance=1.0), rate=rate)
    nothing = Pretraining(initial=1.0, selection=Selection(variance=0.0, first=0.0), rate=rate)
    with pytest.raises(CallError, match="no threshold"):
        nothing.threshold(5)
