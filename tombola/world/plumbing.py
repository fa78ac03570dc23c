"""A network of pipes: layers that centre, divide or saturate pass on, so that paths only add up."""

from copy import deepcopy
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

SATURATING = (nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Softsign)


def plumbing(network: nn.Module) -> nn.Module:
    """A copy whose normalisation layers pass on what they get, times their weight plus their bias.

    As batch normalisation in inference mode does before any training, whose running mean is 0 and
    variance 1; layer and group normalisation likewise. Activations that saturate, where they are
    modules, pass on what they get: at the sizes that sums over all paths have, their slope would be
    0. Names of tensors stay, so `functional_call` takes the same ones.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Tanh()).requires_grad_(False)
        >>> bool(torch.equal(plumbing(net)(torch.ones(1, 2)), net[0](torch.ones(1, 2))))
        True
    """
    copy = deepcopy(network)
    for module in copy.modules():
        if isinstance(module, (_NormBase, nn.GroupNorm)):
            vars(module)["forward"] = partial(_scaled, module, channels=True)
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            vars(module)["forward"] = partial(_scaled, module, channels=False)
        elif isinstance(module, SATURATING):
            vars(module)["forward"] = _passed_on
    return copy


def _passed_on(inputs: Tensor) -> Tensor:
    return inputs


def _scaled(module: nn.Module, inputs: Tensor, *, channels: bool) -> Tensor:
    """channels: whether weight and bias belong to the second dimension, else to the last ones."""
    for name, operation in (("weight", Tensor.mul), ("bias", Tensor.add)):
        tensor = getattr(module, name, None)
        if tensor is not None:
            shape = (-1, *[1] * (inputs.dim() - 2)) if channels else tuple(tensor.shape)
            inputs = operation(inputs, tensor.reshape(shape))
    return inputs
