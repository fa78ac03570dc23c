"""Wide residual networks for small images, with normalisation before activation."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn


class WideResNet(nn.Module):
    """A 3 x 3 convolution, stages of pre-activation blocks, normalisation, average pool, linear.

    stem: filters of the first convolution. widths: filters of each stage; from the second on a
    stage halves height and width. blocks: of two 3 x 3 convolutions each, for every stage. WRN-22-2
    has 3 blocks a stage and (16, 32, 64) times 2. channels: of the input.

    Weights He normal by fan_out (standard deviation sqrt(2 / fan_out)), those of the linear layer
    by fan_in; convolutions have no bias; normalisation starts at scale 1, shift 0. Source:
    Zagoruyko & Komodakis 2016 (arXiv 1605.07146), table 1, without dropout.

    Shapes: input (n, channels, height, width), output (n, classes).

    Example:
        >>> net = WideResNet()
        >>> sum(p.numel() for p in net.parameters() if p.dim() > 1)
        1076912
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        stem: int = 16,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 3,
        *,
        channels: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()
        before = stem
        for stage, width in enumerate(widths):
            for place in range(blocks):
                self.blocks.append(Block(before, width, 2 if stage and not place else 1))
                before = width
        self.norm = nn.BatchNorm2d(before)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.kaiming_normal_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.conv(inputs)
        for block in self.blocks:
            hidden = block(hidden)
        outputs: Tensor = self.output(self.pool(self.norm(hidden).relu()).flatten(1))
        return outputs


class Block(nn.Module):
    """Normalisation, ReLU and a 3 x 3 convolution, twice, beside a shortcut.

    Where widths differ the shortcut is a 1 x 1 convolution of the first activation.
    """

    version: ClassVar[int] = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if before != width or stride != 1:
            self.shortcut = nn.Conv2d(before, width, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        active = self.norm1(inputs).relu()
        hidden = self.conv2(self.norm2(self.conv1(active)).relu())
        outputs: Tensor = hidden + (inputs if self.shortcut is None else self.shortcut(active))
        return outputs
