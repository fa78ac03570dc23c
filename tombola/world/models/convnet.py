"""The small convolutional networks of the literature: Conv-2, Conv-4, Conv-6 and Conv-8."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from tombola.world.models.initialise import glorot


class ConvNet(nn.Module):
    """Pairs of 3 x 3 convolutions with a 2 x 2 max-pool after each pair, then linear layers.

    widths: filters of the two convolutions of each pair: (64,) is Conv-2, (64, 128) Conv-4,
    (64, 128, 256) Conv-6, (64, 128, 256, 512) Conv-8. hidden: widths of the linear layers between.
    image: channels, height and width of an input. dropout: chance that an output of a hidden linear
    layer is dropped.

    ReLU everywhere but at the end. Weights Glorot normal, biases zero. Source: Frankle & Carbin
    2019 (arXiv 1803.03635), figure 2: a scaled-down VGG; Ramanujan et al. 2019 (arXiv 1911.13299)
    for Conv-8. Where dropout stands the paper does not say; after the hidden linear layers is our
    choice.

    Shapes: input (n, *image), output (n, classes).

    Example:
        >>> net = ConvNet((64,))
        >>> net(torch.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([2, 10]), 4301642)
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        widths: Sequence[int],
        hidden: Sequence[int] = (256, 256),
        *,
        image: tuple[int, int, int] = (3, 32, 32),
        classes: int = 10,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, height, width = image
        self.convs = nn.ModuleList()
        for filters in widths:
            self.convs.append(nn.Conv2d(channels, filters, 3, padding=1))
            self.convs.append(nn.Conv2d(filters, filters, 3, padding=1))
            channels, height, width = filters, height // 2, width // 2
        sizes = [channels * height * width, *hidden, classes]
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        glorot(self)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for place, conv in enumerate(self.convs):
            hidden = conv(hidden).relu()
            if place % 2:
                hidden = self.pool(hidden)
        hidden = torch.flatten(hidden, 1)
        for linear in self.linears[:-1]:
            hidden = self.dropout(linear(hidden).relu())
        outputs: Tensor = self.linears[-1](hidden)
        return outputs
