"""SynFlow: how much of all paths through the network goes through a weight; without data."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Snapshot


@dataclass(frozen=True, kw_only=True)
class SynFlow:
    """|w| dR/d|w| per weight: R the flow of the network with all its tensors made positive.

    R is the sum of the outputs for one input of ones (see `Probe.flow`). In a network of linear
    layers, convolutions and ReLU it is a sum over paths of products of weights, and the score of
    a weight is the share of the paths through it. So the scores of a layer add up to R, and those
    into a hidden unit to those out of it, where there are no biases. A weight scores 0 exactly if
    no path of kept weights goes through it. Shapes: as the weights; float64.

    Scores change as weights go, so take small steps (`Stepwise`): at one step it cuts whole layers
    much as other scores do. Float64, since R is a product over the depth, which leaves the range of
    float32 in deep networks; scores that vanish so would tie.

    Source: Tanaka, Kunin, Yamins & Ganguli 2020 (arXiv 2006.05467), section 5 and algorithm 1.
    Differs: normalisation passes on what it gets, scaled and shifted by its weight and bias, where
    the authors' code takes running statistics and makes them positive too (the same before any
    training, up to the constant under the root); integer tensors are left alone. Counts are exact
    (`rule`), where their threshold drops a whole group of equal scores at once.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        positive = {
            name: tensor.double().abs() if tensor.is_floating_point() else tensor
            for name, tensor in at.end.items()
        }
        weights = {layer.name: positive[layer.name].requires_grad_() for layer in at.layers}
        slopes = torch.autograd.grad(
            probe.flow(positive), tuple(weights.values()), materialize_grads=True
        )
        # Along attention a path may take from others: the size of its share counts.
        return {
            name: (weight.detach() * slope).abs()
            for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        }
