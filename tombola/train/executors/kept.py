"""Layers that hold and compute with kept weights alone, in the place of torch's."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tombola.kernels.conv import Conv, Convolution, Image, Window
from tombola.train.executors.executor import NotServedError
from tombola.values.mask import Mask


class KeptLayer(nn.Module):
    """A linear or convolution layer whose `weight` is flat: its kept entries, (kept,).

    Under the same names as the layer it stands for; only the shape of `weight` differs.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, kept: Tensor, kernel: Convolution) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach()[kept])
        self.bias = layer.bias
        self.train(layer.training)
        self._kernel = kernel
        self._window = None if isinstance(layer, nn.Linear) else window_of(layer)
        self._kept = kept.reshape(*kept.shape, 1, 1).numpy() if kept.dim() == 2 else kept.numpy()
        self._known: dict[Image, Conv] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dtype is not torch.float32:
            raise NotServedError(f"an input is {inputs.dtype}, not float32")
        if self._window is None:
            rows = inputs.reshape(-1, inputs.shape[-1], 1, 1)
            return self._through(rows, Window()).reshape(*inputs.shape[:-1], -1)
        if inputs.dim() == 3:
            return self._through(inputs[None], self._window)[0]
        return self._through(inputs, self._window)

    def _through(self, images: Tensor, window: Window) -> Tensor:
        size = Image(*images.shape[1:])
        if size not in self._known:
            self._known[size] = Conv(self._kept, size, window)
        return self._kernel.apply(self._known[size], images, self.weight, self.bias)


def window_of(layer: nn.Conv2d) -> Window:
    """How a convolution moves.

    Raises:
        NotServedError: it has groups, dilation or padding that the kernels do not know.
    """
    if layer.groups != 1:
        raise NotServedError(f"it has {layer.groups} groups")
    if layer.dilation != (1, 1):
        raise NotServedError(f"it has dilation {layer.dilation}")
    if layer.padding_mode != "zeros":
        raise NotServedError(f"its padding is {layer.padding_mode!r}, not zeros")
    tall, wide = layer.kernel_size
    stride, padding = layer.stride, layer.padding
    if isinstance(padding, str):
        if padding == "same" and (tall % 2 == 0 or wide % 2 == 0):
            raise NotServedError(f"its padding is 'same' around a window of {tall} x {wide}")
        padding = (0, 0) if padding == "valid" else (tall // 2, wide // 2)
    return Window((stride[0], stride[1]), (padding[0], padding[1]))


def layers_of(network: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d, str | None]]:
    """The linear and convolution layers of a network: name of the weight, layer, and what keeps it
    from being replaced, if anything does.

    >>> net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2))
    >>> [(name, reason) for name, _, reason in layers_of(net)]
    [('0.weight', 'it has 2 groups'), ('2.weight', None)]
    """
    uses: dict[int, int] = {}
    for _, tensor in network.named_parameters(remove_duplicate=False):
        uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            yield f"{name}.weight".removeprefix("."), module, _hindrance(module, name, uses)


def _hindrance(module: nn.Module, name: str, uses: Mapping[int, int]) -> str | None:
    if type(module) not in (nn.Linear, nn.Conv2d):
        return f"it is a {type(module).__name__}"
    if not name:
        return "it is the whole network"
    own = dict(module.named_parameters(recurse=False))
    shared = [key for key, tensor in own.items() if uses[id(tensor)] > 1]
    if shared:
        return f"its {shared[0]} is shared"
    if "weight" not in own or not own["weight"].requires_grad:
        return "its weight is not trained"
    if _hooked(module):
        return "it has hooks"
    if isinstance(module, nn.Conv2d):
        try:
            window_of(module)
        except NotServedError as reason:
            return str(reason)
    return None


def _hooked(module: nn.Module) -> bool:
    """Whether anything else is called with the layer."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module)


def replace_layers(
    network: nn.Module, names: tuple[str, ...], mask: Mask, kernel: Convolution
) -> None:
    """Put a `KeptLayer` in the place of each layer whose weight has one of these names."""
    for name in names:
        path = name.removesuffix(".weight")
        layer = network.get_submodule(path)
        assert isinstance(layer, (nn.Linear, nn.Conv2d))
        parent, _, child = path.rpartition(".")
        kept = mask.of(name, layer.weight.shape)
        setattr(network.get_submodule(parent), child, KeptLayer(layer, kept, kernel))
