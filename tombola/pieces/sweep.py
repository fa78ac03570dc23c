"""The least-squares sweep of one layer: cut column by column, later columns make up for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.schedule import round_half_up
from tombola.pieces.select import largest


@dataclass(frozen=True, kw_only=True)
class Block:
    """Columns whose weights compete, and how many stay: in all, or in each row."""

    columns: slice
    keep: int
    in_each_row: bool = False

    def best(self, scores: Tensor, allowed: Tensor) -> Tensor:
        """Which stay of (rows, columns) scores, the highest of those allowed, ties to the lower
        index."""
        if not self.in_each_row:
            return largest(scores, allowed, self.keep)
        order = scores.masked_fill(~allowed, -1.0).argsort(dim=1, descending=True, stable=True)
        return torch.zeros_like(allowed).scatter_(1, order[:, : self.keep], True) & allowed


def shared_out(allowed: Tensor, live: Tensor, keep: int, width: int) -> tuple[Block, ...]:
    """Blocks of `width` columns, and in each a share of the `keep` weights that stay.

    In proportion to the allowed weights of inputs that are not dead; those of dead ones stay only
    when there are no others. Shares add up to `keep`, each within a weight of its proportion.
    allowed: bool (rows, d). live: bool (d,).

    Example:
        >>> allowed, live = torch.ones(2, 4, dtype=torch.bool), torch.tensor([0, 1, 1, 1]).bool()
        >>> [block.keep for block in shared_out(allowed, live, 3, 2)]
        [1, 2]
    """
    rest, counts = keep, [0] * -(-allowed.shape[1] // width)
    for among in (allowed & live, allowed & ~live):
        sizes = [int(part.sum()) for part in among.split(width, dim=1)]
        some, seen, taken = min(rest, sum(sizes)), 0, 0
        for place, size in enumerate(sizes):
            seen += size
            upto = round_half_up(some * seen / max(sum(sizes), 1))
            counts[place] += upto - taken
            taken = upto
        rest -= some
    return tuple(
        Block(columns=slice(place * width, min((place + 1) * width, allowed.shape[1])), keep=count)
        for place, count in enumerate(counts)
    )


def factored(hessian: Tensor, damping: float) -> Tensor:
    """U, upper triangular, with U^T U the inverse of the damped matrix; (d, d) float64.

    hessian: sum of x x^T over a layer's inputs x, (d, d). Inputs that are dead, always 0, are taken
    for independent of all others. damping: added to the diagonal, as a fraction of its mean over
    live inputs. U_jj^2 is what [H^-1]_jj is once inputs before j are settled.

    Raises:
        RecipeError: no such factor in float64.
    """
    hessian = hessian.clone()
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    mean = 1.0 if bool(dead.all()) else float(diagonal[~dead].mean())
    diagonal[dead] = mean
    diagonal += damping * mean
    lower, failed = torch.linalg.cholesky_ex(hessian)
    upper = hessian
    if not failed:
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if failed:
        raise RecipeError(
            f"the inputs of a layer depend on one another so much that, damped by {damping:g}, "
            "their products have no inverse in float64; raise the damping."
        )
    return upper


def sweep(
    weights: Tensor, factor: Tensor, allowed: Tensor, blocks: Sequence[Block]
) -> tuple[Tensor, Tensor]:
    """Cut the columns of a layer from left to right; what each cut does wrong moves those after it.

    In a row, cutting w_j leaves an error of w_j / U_jj, and the weights after it move by that much
    of row j of U, against it: the least-squares fit of the layer's outputs by the weights not yet
    settled. Which weights of a block stay, by w^2 / U_jj^2, is settled when all blocks before have
    been. weights: (rows, d). factor: U (`factored`). allowed: bool, which are there. Returns the
    weights, +0.0 where cut, and which are kept, bool, both (rows, d).

    Source: Frantar & Alistarh 2023, SparseGPT (arXiv 2301.00774), section 3.
    """
    weights, kept = weights.clone(), allowed.clone()
    size = factor.diagonal().square()
    for block in blocks:
        here, after = block.columns, slice(block.columns.stop, None)
        kept[:, here] = block.best(weights[:, here].square() / size[here], allowed[:, here])
        errors = torch.zeros_like(weights[:, here])
        for place, j in enumerate(range(here.start, here.stop)):
            errors[:, place] = weights[:, j].masked_fill(kept[:, j], 0.0) / factor[j, j]
            rest = slice(j + 1, here.stop)
            weights[:, rest] -= errors[:, place, None] * factor[j, rest]
        weights[:, after] -= errors @ factor[here, after]
    return torch.where(kept, weights, torch.zeros_like(weights)), kept
