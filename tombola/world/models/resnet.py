"""Residual networks for small images; the 2019 paper's "Resnet-18" is the one of 20 layers."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from tombola.world.models.initialise import glorot


class ResNet(nn.Module):
    """A 3 x 3 convolution, then stages of residual blocks, average pooling, one linear layer.

    widths: filters of each stage; from the second on a stage halves height and width. blocks: of
    two 3 x 3 convolutions each, for every stage; 3 x (16, 32, 64) has 20 layers. channels: of the
    input. Where shapes change, the shortcut is a 1 x 1 convolution with normalisation.

    Weights Glorot normal; convolutions have no bias; normalisation starts at scale 1, shift 0 (the
    authors' later OpenLTH draws the scale uniformly from 0 to 1, which finds other tickets).
    Source: He et al. 2016 (arXiv 1512.03385), section 4.2; Frankle & Carbin 2019 (arXiv
    1803.03635), figure 2 and appendix I, for convolutions in the shortcuts (2,560 weights there).

    Shapes: input (n, channels, height, width), output (n, classes).

    Example:
        >>> net = ResNet()
        >>> sum(p.numel() for name, p in net.named_parameters() if p.dim() > 1)
        270896
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 3,
        *,
        channels: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.ModuleList()
        before = widths[0]
        for stage, width in enumerate(widths):
            for place in range(blocks):
                self.blocks.append(Block(before, width, 2 if stage and not place else 1))
                before = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(before, classes)
        glorot(self)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.conv(inputs)).relu()
        for block in self.blocks:
            hidden = block(hidden)
        outputs: Tensor = self.output(self.pool(hidden).flatten(1))
        return outputs


class Block(nn.Module):
    """Two 3 x 3 convolutions with normalisation, beside a shortcut."""

    version: ClassVar[int] = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut.append(nn.Conv2d(before, width, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(inputs)).relu()
        hidden = self.norm2(self.conv2(hidden))
        outputs: Tensor = (hidden + self.shortcut(inputs)).relu()
        return outputs
