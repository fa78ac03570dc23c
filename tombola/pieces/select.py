"""Scores and a count in, a mask out: exact, and the same under ties on every device."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.values.layer import Layer
from tombola.values.mask import Mask


def keep_best(
    scores: Mapping[str, Tensor],
    layers: tuple[Layer, ...],
    asked: Mapping[str, int] | int,
    prior: Mask,
) -> Mask:
    """`keep_top` where counts are by tensor, `keep_top_together` where there is one for all."""
    if isinstance(asked, int):
        return keep_top_together(scores, layers, asked, prior)
    return keep_top(scores, layers, asked, prior)


def keep_top(
    scores: Mapping[str, Tensor], layers: tuple[Layer, ...], counts: Mapping[str, int], prior: Mask
) -> Mask:
    """Keep exactly `counts[name]` weights of each tensor, the highest scores of those in `prior`.

    Ties go to the lower index. Raises RecipeError when a tensor has fewer left than asked for, or
    when a score is missing, misshapen or not finite.

    Example:
        >>> fc = Layer(name="fc", shape=(4,), kind="linear", rate=.8)
        >>> keep_top({"fc": torch.tensor([1., 2., 2., 2.])}, (fc,), {"fc": 2}, Mask({}))["fc"]
        tensor([False,  True,  True, False])
    """
    kept = {}
    for layer in layers:
        score = _checked(scores, layer)
        allowed = prior.of(layer.name, layer.shape)
        kept[layer.name] = _best(score, allowed, counts[layer.name], layer.name)
    return Mask(kept)


def keep_top_together(
    scores: Mapping[str, Tensor], layers: tuple[Layer, ...], count: int, prior: Mask
) -> Mask:
    """Keep exactly `count` weights of all tensors together; ties as in `keep_top`."""
    flat = torch.cat([_checked(scores, layer).reshape(-1).to(torch.float64) for layer in layers])
    allowed = torch.cat([prior.of(layer.name, layer.shape).reshape(-1) for layer in layers])
    best = _best(flat, allowed, count, "all tensors together")
    parts = best.split([layer.count for layer in layers])
    return Mask(
        {layer.name: part.reshape(layer.shape) for layer, part in zip(layers, parts, strict=True)}
    )


def _best(score: Tensor, allowed: Tensor, count: int, where: str) -> Tensor:
    left = int(allowed.sum())
    if count > left:
        raise RecipeError(
            f"the target keeps {count} weights of {where}, only {left} are left: "
            "a later round may not ask for more than the one before."
        )
    return largest(score, allowed, count)


def largest(size: Tensor, among: Tensor, count: int) -> Tensor:
    """True at the `count` largest entries of `size` where `among` is True; no NaN.

    Ties go to the lower index: equal values (all-zero rows are common) choose the same entries on
    every device. By selection, not by a stable sort, which takes ten times as long.

    >>> largest(torch.tensor([3., 1., 3., 3.]), torch.tensor([True, True, False, True]), 1)
    tensor([ True, False, False, False])
    """
    if count in (0, int(among.sum())):
        return among & (count > 0)
    size = size if size.is_floating_point() else size.double()
    values, allowed = torch.where(among, size, -torch.inf).reshape(-1), among.reshape(-1)
    largest_left_out = _in_order(values, len(values) - count - 1)
    chosen = values > largest_left_out
    tied = ((values == largest_left_out) & allowed).nonzero().squeeze(1)
    chosen[tied[: count - int(chosen.sum())]] = True
    return chosen.reshape(among.shape)


def _in_order(values: Tensor, place: int) -> Tensor | float:
    """What would stand at a place if values were sorted. Numpy selects faster on a processor."""
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        return float(np.partition(values.numpy(), place)[place])
    return values.kthvalue(place + 1).values


def _checked(scores: Mapping[str, Tensor], layer: Layer) -> Tensor:
    if not isinstance(scores, Mapping):
        raise RecipeError(
            f"the score gave a {type(scores).__name__}; want a tensor for each layer, by its name."
        )
    if layer.name not in scores:
        raise RecipeError(f"the score gave nothing for {layer.name!r}; it gave {sorted(scores)}.")
    if not isinstance(scores[layer.name], Tensor):
        given = type(scores[layer.name]).__name__
        raise RecipeError(f"the score of {layer.name!r} is a {given}; want a tensor.")
    score = scores[layer.name].detach().cpu()
    if tuple(score.shape) != layer.shape:
        raise RecipeError(
            f"the score of {layer.name!r} has shape {tuple(score.shape)}, want {layer.shape}: "
            "one number per weight."
        )
    if not bool(torch.isfinite(score).all()):
        raise RecipeError(
            f"the score of {layer.name!r} has NaN or infinity, so weights cannot be ranked. "
            "Compute it in float64, or clamp it."
        )
    return score
