"""Networks that compute with binary activations: any network with ReLU, its ReLUs made signs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tombola.errors import WorldError
from tombola.values.rng import borrowed_generators
from tombola.world.calling import called
from tombola.world.world import World

_IN_PLACE = {torch.relu_, Tensor.relu_, F.relu_}
_RELU = {torch.relu, Tensor.relu, F.relu} | _IN_PLACE


def binarised(world: World) -> World:
    """The world with binary activations: +1 or -1 where its network, and the thin one, has ReLU.

    However ReLU is written; all else stays, names of tensors too. See `binary` for the gradient.
    The name says so, as `tombola find --on` takes it: `mnist-lenet,activations=binary`.

    Source: Diffenderfer & Kailkhura 2021 (arXiv 2103.09377), MPT-1/1; first layer and classifier
    see what their place in the network gives them.

    Raises:
        WorldError: the network has no ReLU to replace.

    Example:
        >>> from tombola.testing import toy_world
        >>> world = binarised(toy_world())
        >>> world.name, world.layers == toy_world().layers
        ('toy,activations=binary', True)
    """
    network, seen = world.new_network(0).eval(), BinaryActivations()
    with torch.no_grad(), world.numerics.in_force(), borrowed_generators():
        batch = world.batch(world.train, torch.arange(min(2, len(world.train))))
        with seen:
            called(network, batch.inputs)
    if not seen.replaced:
        raise WorldError(
            f"world {world.name!r}: {type(network).__name__} has no ReLU, so there is no "
            "activation to make binary. Want a network with ReLU between its layers."
        )
    return replace(
        world,
        model=partial(with_binary_activations, world.model),
        thin=None if world.thin is None else partial(with_binary_activations, world.thin),
        name=f"{world.name},activations=binary",
    )


def with_binary_activations(make: Callable[..., nn.Module], *args: Any) -> nn.Module:
    """The network that `make` gives, with signs for ReLUs in its forward pass."""
    network = make(*args)
    network.forward = MethodType(_forward, network)  # a method, so that copies call their own
    return network


def _forward(network: nn.Module, inputs: Any) -> Any:
    with BinaryActivations():
        return type(network).forward(network, inputs)


class BinaryActivations(TorchFunctionMode):
    """A context in which ReLU is `binary`. replaced: how often it was."""

    def __init__(self) -> None:
        super().__init__()
        self.replaced = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func not in _RELU:
            return func(*args, **given)
        self.replaced += 1
        inputs = args[0] if args else given["input"]
        if func in _IN_PLACE or given.get("inplace") or True in args[1:]:
            return inputs.copy_(binary(inputs.clone()))
        return binary(inputs)


def binary(inputs: Tensor) -> Tensor:
    """The sign of each number, that of 0 is +; its gradient is 2 (1 - |x|) up to 1, and 0 beyond.

    That is the derivative of 2x + x^2 below 0 and 2x - x^2 above, which goes from -1 to 1 as the
    sign does. NaN stays.

    Source: Liu et al. 2018, Bi-Real Net (arXiv 1808.00278); Diffenderfer & Kailkhura 2021, whose
    sign of 0 is 0.

    >>> x = torch.tensor([-3.0, -0.5, 0.0, 0.25], requires_grad=True)
    >>> y = binary(x)
    >>> y.tolist(), torch.autograd.grad(y.sum(), x)[0].tolist()
    ([-1.0, -1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 1.5])
    """
    near = inputs.clamp(-1.0, 1.0)
    spline = near * (2.0 - near.abs())
    sign = (inputs >= 0.0).to(inputs.dtype) * 2.0 - 1.0
    return sign + (spline - spline.detach())  # x - x is +0.0
