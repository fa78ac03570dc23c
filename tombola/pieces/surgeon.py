"""Optimal Brain Surgeon: cut one weight at a time and move all the others to make up for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.allocation import Global
from tombola.pieces.memory import gigabytes
from tombola.pieces.rule import Cut, asked_of, no_outputs, too_few
from tombola.pieces.schedule import Target
from tombola.pieces.score.curvature import by_tensor, flat, gauss_newton, moved, still_there
from tombola.pieces.score.score import Need, Probe, Snapshot
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import Mask

BYTES = 30  # for each entry of the Hessian: itself, its factor, its inverse, and a copy


@dataclass(frozen=True, kw_only=True)
class OptimalBrainSurgeon:
    """Cut the weight whose loss grows least once all others have made up for it; repeat.

    With H the Hessian of the loss over the weights in scope that are still there, cutting weight q
    raises the loss by L_q = w_q^2 / (2 [H^-1]_qq) when the others move by
    -(w_q / [H^-1]_qq) H^-1 e_q. The least L_q goes, then the others move, then q leaves H^-1;
    H itself is taken once a round. All tensors compete, unless the target sets counts: then a
    tensor that has reached its count is closed. Biases and whatever else is out of scope are held.

    H is the Gauss-Newton matrix of the mean loss, (1/P) sum_p J_p^T C_p J_p + damping I. J_p:
    derivatives of the raw outputs of example p by the n weights, (outputs, n), in the network's own
    dtype. C_p: second derivatives of its loss by its outputs, for cross-entropy diag(y) - y y^T
    with y the class probabilities. All but J_p in float64. Of a linear model with squared error H
    is exact, and what stays is the optimum without what went.

    examples: P, distinct training examples. damping: in units of H; towards infinity the order
    becomes that of the magnitudes, near 0 the inverse amplifies directions the examples leave open.
    1e-4 is our choice: on `digits-small` (2 seeds) 1e-6 to 1e-2 differ little at half density, 1e-8
    loses more than magnitude does. limit: the most weights in scope; memory is about 30 n^2 bytes
    (.75 GB at the default), time grows with n^3.

    Source: Hassibi & Stork 1993, Second order derivatives for network pruning: Optimal Brain
    Surgeon (NIPS 5), sections 2 and 3. Differs: any loss of the outputs, where they have squared
    error; H is summed and inverted once, where they update an inverse example by example from
    I / damping, which gives the same matrix; several weights go between two looks at H.

    Raises:
        RecipeError: a field out of range; a target that keeps more than is left.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED, Need.BATCHES, Need.OUTPUTS})
    moves_weights: ClassVar[bool] = True

    examples: int = 1_000
    damping: float = 1e-4
    limit: int = 5_000

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise RecipeError(f"OptimalBrainSurgeon(examples={self.examples}): want at least one.")
        if not 0.0 < self.damping < float("inf"):
            raise RecipeError(
                f"OptimalBrainSurgeon(damping={self.damping}): want a positive number, for example "
                "1e-4; without it the Hessian has no inverse."
            )

    def refuses(self, setting: Setting) -> str | None:
        if setting.outputs is None:
            return no_outputs("OptimalBrainSurgeon", setting)
        if self.examples > setting.examples:
            return too_few("OptimalBrainSurgeon", self.examples, setting)
        count = sum(layer.count for layer in setting.layers)
        if count <= self.limit:
            return None
        return (
            f"OptimalBrainSurgeon inverts the Hessian of all {count:,} weights in scope at once: "
            f"{gigabytes(BYTES * count**2)} of memory, and its limit is {self.limit:,} weights. "
            "Take a form that scales, `woodfisher` (WoodFisher) or `layerwise` "
            "(LayerwiseLeastSquares); a smaller network (the world `digits-small` has one); leave "
            "tensors out by the recipe's scope; or raise `limit`."
        )

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return asked_of(Global(), layers, target)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        there, weights = still_there(at), flat(at.end, at.layers).double()
        group, keep = self._quotas(at.layers, target)
        inverse = self._inverse(gauss_newton(at, probe, self.examples, there))
        weights[there], kept = surgeon(weights[there], inverse, group[there], keep)
        there[there.clone()] = kept
        mask = Mask(by_tensor(there, at.layers))
        return Cut(mask=mask, params=mask.apply(moved(at.end, weights, at.layers)))

    def _quotas(self, layers: tuple[Layer, ...], target: Target) -> tuple[Tensor, list[int]]:
        """Which count each weight falls under, int64 (weights in scope,), and those counts."""
        asked = self.asks(layers, target)
        sizes = torch.tensor([layer.count for layer in layers])
        if isinstance(asked, int):
            return torch.zeros(int(sizes.sum()), dtype=torch.int64), [asked]
        return torch.arange(len(layers)).repeat_interleave(sizes), [asked[x.name] for x in layers]

    def _inverse(self, hessian: Tensor) -> Tensor:
        """Of the matrix with damping, which is added in place."""
        hessian.diagonal().add_(self.damping)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if failed:
            raise RecipeError(
                f"OptimalBrainSurgeon(damping={self.damping}): the Hessian has no inverse in "
                "float64. Raise the damping."
            )
        return torch.cholesky_inverse(factor)


def increase(weights: Tensor, inverse: Tensor) -> Tensor:
    """How much the loss grows when each weight goes and the others make up for it, (n,).

    >>> increase(torch.tensor([1.0, 2.0]), torch.eye(2))
    tensor([0.5000, 2.0000])
    """
    return weights.square() / (2 * inverse.diagonal())


def surgeon(
    weights: Tensor, inverse: Tensor, group: Tensor, keep: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Cut weights one by one, the least `increase` first, until each group keeps its number.

    weights: (n,). inverse: of the Hessian, (n, n). group: int64 (n,), the place in `keep` of the
    number a weight counts towards. Of equal weights the lower index stays. Returns the weights
    after the last cut, (n,), +0.0 where cut, and which are kept, bool (n,).

    Raises:
        RecipeError: a group that is to keep more than it has.

    Example:
        >>> inverse = torch.tensor([[2.0, 1.0], [1.0, 2.0]]) / 3  # of [[2, -1], [-1, 2]]
        >>> surgeon(torch.tensor([1.0, 2.0]), inverse, torch.zeros(2, dtype=torch.int64), [1])
        (tensor([0.0000, 1.5000]), tensor([False,  True]))
    """
    have = torch.bincount(group, minlength=len(keep))
    surplus = have - torch.tensor(keep)
    if bool((surplus < 0).any()):
        raise RecipeError(
            f"the target keeps {list(keep)} weights, only {have.tolist()} are left: "
            "a later round may not ask for more than the one before."
        )
    weights, inverse = weights.clone(), inverse.clone()
    kept = torch.ones_like(weights, dtype=torch.bool)
    for _ in range(int(surplus.sum())):
        closed = ~kept | (surplus[group] == 0)
        rise = increase(weights, inverse).masked_fill(closed, torch.inf)
        q = len(rise) - 1 - int(rise.flip(0).argmin())
        column = inverse[:, q] / inverse[q, q]  # exactly 1 at q: weight and row become exactly 0
        weights -= weights[q] * column
        inverse.addr_(column, inverse[q].clone(), alpha=-1)
        kept[q] = False
        surplus[group[q]] -= 1
    return weights, kept
