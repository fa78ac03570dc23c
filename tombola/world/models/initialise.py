"""How weights are drawn at the start."""

from torch import nn


def glorot(network: nn.Module) -> None:
    """Draw all convolutions and linear layers anew: weights Glorot normal, biases zero."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
