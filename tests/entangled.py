"""Networks whose layers are joined in other ways than in a row."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Grouped(nn.Module):
    """A depthwise convolution, one of two groups, an activation with a slope for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(4, 8, 3, groups=4)
        self.act = nn.PReLU(8)
        self.groups = nn.Conv2d(8, 6, 1, groups=2)
        self.last = nn.Conv2d(6, 5, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.groups(self.act(self.depthwise(self.first(inputs))))
        outputs: Tensor = self.last(hidden).mean(dim=(2, 3))
        return outputs


class Joined(nn.Module):
    """Concatenation, a flattening of channels, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 1)
        self.gate = nn.Linear(7, 20)
        self.hidden, self.out = nn.Linear(5 * 4, 20), nn.Linear(20, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        both = torch.cat([self.left(inputs), self.right(inputs)], dim=1)
        pooled = F.adaptive_avg_pool2d(both, 2).flatten(1)
        gate = torch.sigmoid(self.gate(inputs[:, 0, 0, :7]))
        outputs: Tensor = self.out(self.hidden(pooled) * gate)
        return outputs


class Encoder(nn.Module):
    """Attention of two heads, layer normalisation, an MLP; the shapes written out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.mixed, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.words(inputs)
        parts = (one(hidden) for one in (self.query, self.key, self.value))
        heads = (one.unflatten(-1, (-1, 4)).transpose(1, 2) for one in parts)
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        hidden = self.norm(hidden + self.mixed(mixed))
        outputs: Tensor = self.head((hidden + self.down(F.gelu(self.up(hidden))))[:, 0])
        return outputs


class Tied(nn.Module):
    """One layer used twice, and a weight that is read transposed where it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.out = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.again(self.again(self.first(inputs)).relu())
        outputs: Tensor = self.out(hidden)
        return outputs


class Upwards(nn.Module):
    """A transposed convolution, whose weight has inputs first, and a projection by a raw tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.ConvTranspose2d(3, 6, 2, stride=2), nn.Conv2d(6, 4, 2, stride=2)
        self.out = nn.Parameter(torch.linspace(-1, 1, 8).reshape(4, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.down(self.up(inputs).relu()).mean(dim=(2, 3))
        outputs: Tensor = hidden @ self.out
        return outputs
