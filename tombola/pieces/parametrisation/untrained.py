"""The values among which a mask is found, when weights are not trained."""

import math
from enum import Enum

import torch
from torch import Tensor

from tombola.values.rng import stream


class Weights(Enum):
    """The values among which edge-popup, or a supermask, chooses; w is the initial weight."""

    SIGNED_CONSTANT = "sign(w) * sqrt(2 / fan_in)"
    CONSTANT = "sqrt(2 / fan_in)"
    KAIMING = "normal, of variance 2 / fan_in"
    AS_IS = "the initial weights"


def untrained(weights: Weights, weight: Tensor, seed: int, name: str) -> Tensor:
    """Values of one tensor, like `weight`, its initial values; drawn ones by seed and name."""
    deviation = math.sqrt(2.0 / math.prod(weight.shape[1:]))
    match weights:
        case Weights.AS_IS:
            return weight.clone()
        case Weights.SIGNED_CONSTANT:
            return weight.sign() * deviation
        case Weights.CONSTANT:
            return torch.full_like(weight, deviation)
        case Weights.KAIMING:
            generator = stream(seed, "untrained weights", name)
            return torch.empty_like(weight).normal_(0.0, deviation, generator=generator)
