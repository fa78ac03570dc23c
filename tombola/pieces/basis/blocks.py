"""Blocks of neighbouring weights."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch

from tombola.errors import RecipeError
from tombola.values.layer import Layer
from tombola.values.units import Coupling, Role, Sets, Slices, UnitSet, set_name


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Blocks of `rows` x `columns` weights of every tensor, seen as a matrix (outputs, the rest).

    For arithmetic that loads neighbours together. They are no part of one another, so nothing can
    be taken out of the network whole. Source: block sparsity as in Gray, Radford & Kingma 2017, GPU
    Kernels for Block-Sparse Weights; which block sizes pay is the machine's to say.

    Raises:
        RecipeError: a size below 1; or, when applied, a tensor that it does not divide.

    Example:
        >>> pair = (Layer(name="fc.weight", shape=(4, 6), kind="linear", rate=.8),)
        >>> (one,) = Blocks(rows=2, columns=3).sets(pair, lambda: None)
        >>> one.name, one.shape, one.slices[0].unit[:, 3].tolist()
        ('fc', (2, 2), [1, 1, 3, 3])
    """

    rows: int = 2
    columns: int = 4

    def __post_init__(self) -> None:
        for what in ("rows", "columns"):
            value = getattr(self, what)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise RecipeError(f"Blocks({what}={value!r}): want a whole number, 1 or more.")

    def sets(self, layers: tuple[Layer, ...], coupling: Callable[[], Coupling]) -> Sets:
        return tuple(self._of(layer) for layer in layers)

    def _of(self, layer: Layer) -> UnitSet:
        tall, wide = layer.shape[0], prod(layer.shape[1:])
        if tall % self.rows or wide % self.columns:
            raise RecipeError(
                f"Blocks(rows={self.rows}, columns={self.columns}) does not divide {layer.name!r}, "
                f"which is {tall} x {wide}. Take a size that does, or leave the tensor out: "
                f"Scope(exclude=({layer.name!r},))."
            )
        across = wide // self.columns
        row, column = torch.arange(tall) // self.rows, torch.arange(wide) // self.columns
        unit = (row[:, None] * across + column).reshape(layer.shape)
        part = Slices(tensor=layer.name, role=Role.MADE, unit=unit)
        return UnitSet(name=set_name(layer.name), shape=(tall // self.rows, across), slices=(part,))
