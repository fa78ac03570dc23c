"""How far two sets of weights agree on which of them are large: the overlap R_p.

Source: Liu, Yuan, Che, Shen, Ma, Jin, Ren, Tang, Liu & Wang 2021, Lottery Ticket Preserves Weight
Correlation: Is It Desirable or Not? (arXiv 2102.11068), section 3.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from tombola.pieces.schedule.target import round_half_up
from tombola.values.layer import Layer
from tombola.values.mask import Mask


def overlap(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    layers: Sequence[Layer],
    mask: Mask,
    share: float,
) -> float | None:
    """The fraction of the largest weights of one network that are among the largest of the other.

    In each layer the `share` largest magnitudes of the weights kept are taken, rounded to the
    nearest weight (halves up) and of equal ones the first; numbers are added up over all layers
    before they are divided. 1: the same ones; `share` in the mean where the two have nothing to do
    with each other (see `by_chance`). None where no weight is taken.

    Deviates: divided by the number of weights taken, where the paper has `share` times all of them;
    so that a network with itself is exactly 1.

    Example:
        >>> layer = Layer(name="w", shape=(4,), kind="linear", rate=0.8)
        >>> one = {"w": torch.tensor([4.0, -3.0, 2.0, 1.0])}
        >>> other = {"w": torch.tensor([4.0, 1.0, -3.0, 2.0])}
        >>> overlap(one, other, [layer], Mask({}), share=0.5)
        0.5
    """
    common, taken = 0, 0
    for layer in layers:
        kept = mask.of(layer.name, layer.shape).reshape(-1)
        count = _taken(int(kept.sum()), share)
        both = [_largest(tensors[layer.name], kept, count) for tensors in (first, second)]
        common += int((both[0] & both[1]).sum())
        taken += count
    return common / taken if taken else None


def by_chance(layers: Sequence[Layer], mask: Mask, share: float) -> float | None:
    """The overlap to be expected of two networks that have nothing to do with each other.

    It is `share`, but for rounding: a layer of N weights of which k are taken has k^2 / N of them
    in common.

    >>> layer = Layer(name="w", shape=(10,), kind="linear", rate=0.8)
    >>> by_chance([layer], Mask({}), share=0.25)  # 3 of 10
    0.3
    """
    expected, taken = Fraction(0), 0
    for layer in layers:
        kept = mask.kept(layer.name, layer.count)
        count = _taken(kept, share)
        expected += Fraction(count**2, kept) if kept else 0
        taken += count
    return float(expected / taken) if taken else None


def displacement(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    layers: Sequence[Layer],
    mask: Mask,
) -> float | None:
    """Euclidean distance of the weights kept, as a fraction of their length in `first`; None where
    that is zero. Weights may move far and keep their ranks, or change ranks and move little."""
    moved, length = 0.0, 0.0
    for layer in layers:
        kept = mask.of(layer.name, layer.shape)
        start, end = (tensors[layer.name][kept].double() for tensors in (first, second))
        moved += float((end - start).square().sum())
        length += float(start.square().sum())
    return (moved / length) ** 0.5 if length else None


def _taken(kept: int, share: float) -> int:
    return round_half_up(share * kept)


def _largest(tensor: Tensor, kept: Tensor, count: int) -> Tensor:
    """Where the largest magnitudes are among the weights kept, bool (weights,)."""
    magnitudes = tensor.detach().reshape(-1).abs()
    candidates = kept.nonzero().reshape(-1)
    # Stable: of equal magnitudes (a quantised network has many) the first, on every machine.
    order = magnitudes[candidates].sort(descending=True, stable=True).indices
    chosen = torch.zeros_like(kept)
    chosen[candidates[order[:count]]] = True
    return chosen
