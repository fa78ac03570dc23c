"""Bounds: what theory promises of subnetworks, with every assumption named."""

from tombola.theory.descent import Rate, fitted, kernel_rate, relu_kernel, upheld, wide_rate
from tombola.theory.pretraining import Pretraining
from tombola.theory.selection import Selection

__all__ = [
    "Pretraining",
    "Rate",
    "Selection",
    "fitted",
    "kernel_rate",
    "relu_kernel",
    "upheld",
    "wide_rate",
]
