"""Forward selection: add one atom at a time so that their mean comes nearest to a target."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Atoms:
    """N vectors phi_i and a target y, by their inner products; each summed over data and outputs.

    linear: phi_i . y, float64 (N,). squares: |phi_i|^2, float64 (N,). column: from i to all
    phi_j . phi_i, float64 (N,). target: |y|^2.
    """

    linear: Tensor
    squares: Tensor
    column: Callable[[int], Tensor]
    target: float

    def __len__(self) -> int:
        return len(self.linear)


@dataclass(frozen=True, kw_only=True)
class Selected:
    """order: which atom each step took, int64 (steps,). errors: |mean of the first j - y|^2 after
    each step, float64 (steps,)."""

    order: Tensor
    errors: Tensor

    def counts(self, atoms: int, steps: int | None = None) -> Tensor:
        """How often each was taken in the first steps (None: all), int64 (atoms,).

        >>> Selected(order=torch.tensor([2, 0, 2]), errors=torch.zeros(3)).counts(4)
        tensor([1, 0, 2, 0])
        """
        return torch.bincount(self.order[:steps], minlength=atoms)


def forward_selection(
    atoms: Atoms,
    steps: int,
    *,
    distinct: int | None = None,
    repetition: bool = True,
    among: Tensor | None = None,
) -> Selected:
    """Take at step j the atom i that makes |(S + phi_i)/j - y|^2 least, S the sum of those before.

    In closed form, argmin_i |phi_i|^2 - 2 (j phi_i.y - phi_i.S): exact, one column a step; of equal
    ones the lower number. steps: how many, at most; distinct: it ends when so many different ones
    are taken. repetition: whether one may be taken again, as in the theory; the authors' code of
    the deep version draws without. among: bool (N,), those that may be taken; None: all.

    Source: Ye et al. 2020 (arXiv 2003.01794), algorithm 1, for squared error.

    Raises:
        RecipeError: fewer than one step; or no repetition, and more steps than atoms.

    Example:
        >>> phi = torch.tensor([[1., 0.], [0., 1.], [3., 3.]], dtype=torch.float64)
        >>> y = torch.tensor([1., 1.], dtype=torch.float64)
        >>> atoms = Atoms(linear=phi @ y, squares=phi.square().sum(1),
        ...               column=lambda i: phi @ phi[i], target=2.0)
        >>> found = forward_selection(atoms, 4)
        >>> found.order.tolist(), [round(error, 4) for error in found.errors.tolist()]
        ([0, 1, 2, 0], [1.0, 0.5, 0.2222, 0.0625])
    """
    size = len(atoms)
    allowed = torch.ones(size, dtype=torch.bool) if among is None else among.clone()
    there = int(allowed.sum())
    if steps < 1 or there == 0 or (not repetition and steps > there):
        raise RecipeError(
            f"forward selection of {steps} steps from {there} atoms"
            f"{'' if repetition else ' without repetition'}: want 1 step or more, and an atom for "
            "each."
        )
    with_sum = torch.zeros(size, dtype=torch.float64)  # phi_i . S
    order, errors, taken = list[int](), list[float](), set[int]()
    sum_square = sum_target = 0.0  # |S|^2, S . y
    for j in range(1, steps + 1):
        worth = atoms.squares - 2.0 * (j * atoms.linear - with_sum)
        i = int(worth.masked_fill(~allowed, torch.inf).argmin())
        sum_square += float(2.0 * with_sum[i] + atoms.squares[i])
        sum_target += float(atoms.linear[i])
        with_sum += atoms.column(i)
        order.append(i)
        errors.append((sum_square - 2.0 * j * sum_target) / j**2 + atoms.target)
        taken.add(i)
        allowed[i] = repetition
        if len(taken) == distinct:
            break
    return Selected(order=torch.tensor(order), errors=torch.tensor(errors, dtype=torch.float64))
