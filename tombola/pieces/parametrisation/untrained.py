"""The values among which a mask is found, when weights are not trained."""

import math
from enum import Enum

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.action.constant import deviation
from tombola.pieces.setting import Setting
from tombola.values.rng import stream


class Weights(Enum):
    """What a mask is found among; w is the initial weight, the sign of 0 is +.

    fan_in and fan_out as in PyTorch: weights of one output unit, and of one input unit.
    """

    SIGNED_CONSTANT = "sign(w) * sqrt(2 / fan_in)"
    CONSTANT = "sqrt(2 / fan_in)"
    KAIMING = "normal, of variance 2 / fan_in"
    KAIMING_UNIFORM = "uniform, of variance 2 / fan_in"
    XAVIER = "normal, of variance 2 / (fan_in + fan_out)"
    XAVIER_CONSTANT = "sign(w) * sqrt(2 / (fan_in + fan_out))"
    SIGNED_DEVIATION = "sign(w) * the standard deviation of the tensor's initial weights"
    AS_IS = "the initial weights"


_KEEP_ZEROS = {Weights.SIGNED_DEVIATION, Weights.AS_IS}


def check_fields(piece: object, **kinds: type) -> None:
    """Raise RecipeError unless these fields of a piece are of their kinds, enumerations or bool."""
    for what, kind in kinds.items():
        value = getattr(piece, what)
        if not isinstance(value, kind):
            names = (
                [f"{kind.__name__}.{one.name}" for one in kind] if issubclass(kind, Enum) else []
            )
            raise RecipeError(
                f"{type(piece).__name__}({what}={value!r:.60}): want "
                f"{', '.join(names) or f'a value of {kind.__name__}'}."
            )


def untrained(weights: Weights, weight: Tensor, seed: int, name: str) -> Tensor:
    """Values of one tensor, like `weight`, its initial values; drawn ones by seed and name."""
    fan_in, fan_out = math.prod(weight.shape[1:]), weight.shape[0] * math.prod(weight.shape[2:])
    kaiming, xavier = math.sqrt(2.0 / fan_in), math.sqrt(2.0 / (fan_in + fan_out))
    generator = stream(seed, "untrained weights", name)
    drawn = torch.empty_like(weight)
    match weights:
        case Weights.AS_IS:
            return weight.clone()
        case Weights.SIGNED_CONSTANT:
            return _signed(weight, weight.new_tensor(kaiming))
        case Weights.XAVIER_CONSTANT:
            return _signed(weight, weight.new_tensor(xavier))
        case Weights.SIGNED_DEVIATION:
            return _signed(weight, deviation(weight))
        case Weights.CONSTANT:
            return torch.full_like(weight, kaiming)
        case Weights.KAIMING:
            return drawn.normal_(0.0, kaiming, generator=generator)
        case Weights.XAVIER:
            return drawn.normal_(0.0, xavier, generator=generator)
        case Weights.KAIMING_UNIFORM:
            bound = math.sqrt(3.0) * kaiming
            return drawn.uniform_(-bound, bound, generator=generator)


def _signed(weight: Tensor, size: Tensor) -> Tensor:
    return torch.where(weight < 0, -size, size)


def not_weight_free(piece: object, weights: Weights, setting: Setting) -> str | None:
    """Why no mask over a network's untrained weights can stand for training them, or None."""
    what = type(piece).__name__
    if setting.beside:
        return (
            f"{what} trains no weight, and finds masks of the weights of layers alone; it would "
            f"leave {', '.join(setting.beside)} as drawn. If that is meant, freeze them in the "
            "model (requires_grad=False)."
        )
    redrawn = set[str]()
    if weights not in _KEEP_ZEROS:
        redrawn = {layer.name for layer in setting.layers}
    dead = [name for name in setting.zero if name not in redrawn]
    if dead:
        return (
            f"{what} trains no weight, but {', '.join(dead)} of the model starts at zero "
            "everywhere, and would stay there. Start it at other values."
        )
    if all(target.density < 1.0 for target in setting.targets if target.round):
        return None
    return f"{what} has nothing to choose where nothing is cut; want densities below 1."
