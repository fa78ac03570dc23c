"""What each layer of a network is fed, as the rows that its weight multiplies."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tombola.errors import RecipeError
from tombola.world.calling import called


def rows_of(module: nn.Module, inputs: Tensor) -> Tensor | None:
    """The inputs of a linear layer or a convolution as rows, (groups, rows, fan-in); else None.

    A convolution multiplies its weight with every patch: each is a row, in the order of the
    weight's own dimensions, padding included.

    Example:
        >>> conv = nn.Conv1d(1, 1, 2, bias=False)
        >>> rows_of(conv, torch.tensor([[[1., 2., 3.]]]))
        tensor([[[1., 2.],
                 [2., 3.]]])
    """
    if isinstance(module, nn.Linear):
        return inputs.flatten(0, -2)[None] if inputs.dim() > 1 else inputs[None, None]
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return _patches(module, inputs)
    return None


def _patches(conv: _ConvNd, inputs: Tensor) -> Tensor:
    dims = len(conv.kernel_size)
    if inputs.dim() == dims + 1:
        inputs = inputs[None]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = F.pad(inputs, conv._reversed_padding_repeated_twice, mode=mode)
    for place, (taps, step, apart) in enumerate(
        zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
    ):
        padded = padded.unfold(2 + place, apart * (taps - 1) + 1, step)[..., ::apart]
    # (examples, channels, positions.., taps..) -> (channels, taps.., examples, positions..)
    order = (1, *range(2 + dims, 2 + 2 * dims), 0, *range(2, 2 + dims))
    channels = padded.permute(order).reshape(conv.groups, conv.weight[0].numel(), -1)
    return channels.transpose(1, 2)


def fed_to(network: nn.Module, params: Mapping[str, Tensor], name: str, inputs: Any) -> Tensor:
    """The rows that one weight tensor multiplies while the network runs on `inputs`.

    Raises:
        RecipeError: the tensor is that of no linear layer or convolution that the network calls.
    """
    owners = _owners(network, name)
    seen: list[Tensor] = []

    def see(module: nn.Module, given: tuple[Any, ...]) -> None:
        rows = rows_of(module, given[0]) if given else None
        if rows is not None:
            seen.append(rows)

    hooks = [module.register_forward_pre_hook(see) for module in owners]
    try:
        with torch.no_grad():
            called(network, inputs, params)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise RecipeError(
            f"the inputs of {name!r} cannot be had: it is the weight of no linear layer or "
            "convolution that the network calls."
        )
    return torch.cat(seen, dim=1)


def _owners(network: nn.Module, name: str) -> list[nn.Module]:
    """The modules whose `weight` is this tensor, under this name or tied to it."""
    tensor = network.get_parameter(name)
    return [module for module in network.modules() if getattr(module, "weight", None) is tensor]
