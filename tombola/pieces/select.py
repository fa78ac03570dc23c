"""Scores and a count in, a mask out: exact, and the same under ties on every device."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.values.layer import Layer
from tombola.values.mask import Mask, count_of


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
    left = count_of(allowed)
    if count > left:
        raise RecipeError(
            f"the target keeps {count} weights of {where}, only {left} are left: "
            "a later round may not ask for more than the one before."
        )
    return largest(score, allowed, count)


def largest(size: Tensor, among: Tensor, count: int) -> Tensor:
    """True at the `count` largest entries of `size` where `among` is True; no NaN.

    Ties go to the lower index: equal values (all-zero rows are common) choose the same entries on
    every device. By numpy's selection: torch's takes ten times as long (2.1 against .2 ms for
    300 x 784 on one core), a stable sort a hundred times.

    >>> largest(torch.tensor([3., 1., 3., 3.]), torch.tensor([True, True, False, True]), 1)
    tensor([ True, False, False, False])
    """
    places = np.flatnonzero(among.cpu().numpy())
    if count in (0, len(places)):
        return among & (count > 0)
    size = size.float() if size.dtype is torch.bfloat16 else size  # which numpy has not got
    values = size.detach().cpu().numpy().reshape(-1)[places]
    last = len(values) - count - 1
    largest_left_out = np.partition(values, last)[last]
    best = values > largest_left_out
    tied = np.flatnonzero(values == largest_left_out)
    best[tied[: count - np.count_nonzero(best)]] = True
    chosen = np.zeros(tuple(among.shape), dtype=bool)
    chosen.reshape(-1)[places[best]] = True
    return torch.from_numpy(chosen).to(among.device)


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
