"""What each unit adds to the outputs of the layer that reads it, as atoms to select from."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tombola.pieces.greedy.forward import Atoms

REMEMBERED = 64  # columns: a selection that repeats itself takes few different ones


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A layer that reads units, and what its outputs should become.

    rows: what it is fed, (rows, fan-in). weight: (outputs, fan-in). unit: int64 (fan-in,), which
    unit an input belongs to. target: (rows, outputs), without the layer's bias.
    """

    rows: Tensor
    weight: Tensor
    unit: Tensor
    target: Tensor


def contributions(readings: list[Reading], units: int, scale: float) -> Atoms:
    """Atoms of `units` units: `scale` times what each adds to the outputs of the layers given.

    With scale the number of units the outputs are the *mean* of the atoms, so that selected means
    are subnetworks. Nothing of the size units x rows x outputs is held: products of inputs and of
    weights are taken separately, since unit u adds sum_a h_a w_a. Memory: the rows, once more if
    they are not in the dtype of the weight.
    """
    parts = [_Part(reading, units, scale) for reading in readings]

    @lru_cache(maxsize=REMEMBERED)
    def column(unit: int) -> Tensor:
        return torch.stack([part.column(unit) for part in parts]).sum(0)

    return Atoms(
        linear=torch.stack([part.linear() for part in parts]).sum(0),
        squares=torch.stack([part.squares() for part in parts]).sum(0),
        column=column,
        target=sum(float(reading.target.double().square().sum()) for reading in readings),
    )


class _Part:
    """The share of one layer. Products over rows are in its own dtype, all else in float64."""

    def __init__(self, reading: Reading, units: int, scale: float) -> None:
        self.rows, self.unit, self.scale = reading.rows, reading.unit, scale
        self.weight, self.target = reading.weight, reading.target
        self.units = units

    def linear(self) -> Tensor:
        with_target = self.rows.T @ self.target.to(self.rows.dtype)  # (fan-in, outputs)
        each = (with_target.double() * self.weight.T.double()).sum(1)
        return self.scale * self._by_unit(each)

    def squares(self) -> Tensor:
        single = self.unit.bincount(minlength=self.units).max() == 1
        if single:  # |h|^2 |w|^2
            of_rows = self.rows.square().sum(0, dtype=torch.float64)
            of_weights = self.weight.double().square().sum(0)
            return self.scale**2 * self._by_unit(of_rows * of_weights)
        return torch.stack([self.column(unit)[unit] for unit in range(self.units)])

    def column(self, unit: int) -> Tensor:
        """Inner products with all units, float64 (units,)."""
        own = (self.unit == unit).nonzero().squeeze(1)
        of_rows = self.rows.T @ self.rows[:, own]  # (fan-in, own)
        of_weights = self.weight.T.double() @ self.weight[:, own].double()
        return self.scale**2 * self._by_unit((of_rows.double() * of_weights).sum(1))

    def _by_unit(self, each: Tensor) -> Tensor:
        total = torch.zeros(self.units, dtype=torch.float64)
        return total.index_add_(0, self.unit, each)
