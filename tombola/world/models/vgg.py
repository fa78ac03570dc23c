"""VGG for small images, with normalisation and one linear layer."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from tombola.world.models.initialise import glorot


class VGG(nn.Module):
    """Groups of 3 x 3 convolutions with normalisation, max-pools between, average pool, linear.

    groups: filters of each convolution, group by group; the default is VGG-19 as the 2019 paper has
    it: 2 x 64, 2 x 128, 4 x 256, 4 x 512, 4 x 512. channels: of the input.

    Weights Glorot normal; convolutions have no bias; normalisation starts at scale 1, shift 0.
    Source: Simonyan & Zisserman 2015 (arXiv 1409.1556), table 1, E; Frankle & Carbin 2019 (arXiv
    1803.03635), figure 2 and appendix I, for average pooling and a single linear layer.

    Shapes: input (n, channels, height, width), output (n, classes).

    Example:
        >>> net = VGG()
        >>> sum(p.numel() for name, p in net.named_parameters() if p.dim() > 1)
        20024000
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        groups: Sequence[Sequence[int]] = (
            (64,) * 2,
            (128,) * 2,
            (256,) * 4,
            (512,) * 4,
            (512,) * 4,
        ),
        *,
        channels: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place, group in enumerate(groups):
            if place:
                layers.append(nn.MaxPool2d(2))
            for width in group:
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(channels, classes)
        glorot(self)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.pool(self.features(inputs)).flatten(1))
        return outputs
