"""The fully connected LeNet of the lottery-ticket literature."""

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn


class LeNet(nn.Module):
    """Linear layers of the given widths with ReLU between them.

    Weights Glorot normal (standard deviation sqrt(2 / (fan_in + fan_out))), biases zero. Source:
    LeCun et al. 1998 for the name; Frankle & Carbin 2019 (arXiv 1803.03635), figure 2, for
    300-100 and the initialisation.

    Shapes: input (n, widths[0]), flattened from its second dimension on; output (n, widths[-1]).

    Example:
        >>> import torch
        >>> LeNet(784, 300, 100, 10)(torch.zeros(2, 28, 28)).shape
        torch.Size([2, 10])
    """

    version: ClassVar[int] = 1

    def __init__(self, *widths: int) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths)]
        for layer in layers:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs.flatten(1)
        for layer in self.layers[:-1]:
            hidden = layer(hidden).relu()
        outputs: Tensor = self.layers[-1](hidden)
        return outputs
