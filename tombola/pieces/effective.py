"""Which kept weights do anything: those on a way from an input to an output."""

import torch
from torch import Tensor

from tombola.pieces.score.score import Probe
from tombola.values.layer import Layer
from tombola.values.mask import Mask, cut_to_zero
from tombola.values.params import Params


def effective(mask: Mask, layers: tuple[Layer, ...], params: Params, probe: Probe) -> Mask:
    """The mask without kept weights that are cut off, from the inputs or from the outputs.

    What they are trained to does not reach the outputs, or is a constant there. Found by one pass
    of the network's flow (`Probe.flow`) and one back, with positive weights drawn at random in
    place of its own and no biases: a weight whose slope is exactly 0 is on no way. So cut weights
    count, and values do not. Max-pooling passes on one of its inputs: a weight that matters at none
    of those counts as cut off. params: for names, shapes and dtypes.

    Source: Tanaka et al. 2020 (arXiv 2006.05467) for the pass; Frankle et al. 2021 (arXiv
    2009.08576) tell of layers that hardly train since little reaches them.
    """
    values = {name: _drawn(name, tensor, probe) for name, tensor in params.items()}
    for name, kept in mask.items():
        values[name] = cut_to_zero(values[name], kept)
    weights = {layer.name: values[layer.name].requires_grad_() for layer in layers}
    slopes = torch.autograd.grad(
        probe.flow(values), tuple(weights.values()), materialize_grads=True
    )
    live = {
        layer.name: mask.of(layer.name, layer.shape) & (slope != 0.0)
        for layer, slope in zip(layers, slopes, strict=True)
    }
    return Mask(live)


def _drawn(name: str, tensor: Tensor, probe: Probe) -> Tensor:
    """Uniform on [.5, 1.5), over the root of what a unit takes in, so that depth neither blows the
    flow up nor lets it vanish; biases 0."""
    if not tensor.is_floating_point():
        return tensor
    if name.endswith("bias"):
        return torch.zeros(tensor.shape, dtype=torch.float64)
    taken = tensor[0].numel() if tensor.dim() > 1 else 1
    drawn = torch.rand(tensor.shape, generator=probe.stream("effective", name)).double()
    return torch.div(drawn + 0.5, taken**0.5)
