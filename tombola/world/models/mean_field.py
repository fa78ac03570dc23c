"""A wide network of one hidden layer whose output is the mean of its neurons."""

from typing import ClassVar

from torch import Tensor, nn


class MeanField(nn.Module):
    """f(x) = (1/N) sum_i a_i relu(w_i . x + b_i): `hidden`, then `output`, without a bias.

    inputs, neurons, classes: d, N and the number of outputs. w_i and a_i are drawn from the
    standard normal, b_i is 0: meant for inputs of length about 1. Gradients are N times smaller
    than in a network without the factor, so learning rates go with N.

    Source: the form in which Ye et al. 2020 (arXiv 2003.01794) select neurons; the initial values
    are ours.

    Shapes: input (n, d), flattened from its second dimension on; output (n, classes).

    Example:
        >>> import torch
        >>> MeanField(784, 50, 10)(torch.zeros(2, 28, 28)).shape
        torch.Size([2, 10])
    """

    version: ClassVar[int] = 1

    def __init__(self, inputs: int, neurons: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, neurons)
        self.output = nn.Linear(neurons, classes, bias=False)
        nn.init.normal_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        nn.init.normal_(self.output.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.hidden(inputs.flatten(1)).relu()
        outputs: Tensor = self.output(hidden / self.output.in_features)
        return outputs
