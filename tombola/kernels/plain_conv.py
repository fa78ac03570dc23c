"""Layers with few weights in torch, as whole tensors: works everywhere, and is what the others are
compared with."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from tombola.kernels.conv import Conv


class PlainConvolution:
    """A whole weight made of the kept ones, multiplied and differentiated by torch."""

    name: ClassVar[str] = "torch"

    def apply(self, conv: Conv, inputs: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        whole = values.new_zeros(conv.kept.size).index_put((conv.where,), values)
        weight = whole.reshape(conv.kept.shape)
        if (conv.image.height, conv.image.width, *conv.kept.shape[2:]) == (1, 1, 1, 1):
            return F.linear(inputs.flatten(1), weight.flatten(1), bias)[:, :, None, None]
        window = conv.window
        return F.conv2d(inputs, weight, bias, window.stride, window.padding)
