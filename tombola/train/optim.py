"""Optimiser state as named tensors: taken out, put back, looked at."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.values.params import Params


def slots_of(optimiser: torch.optim.Optimizer, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimiser's own tensors under `"<slot>/<parameter>"`, not copied."""
    slots = {}
    for name, tensor in trained.items():
        for slot, value in optimiser.state.get(tensor, {}).items():
            if value is None:
                continue
            if not isinstance(value, Tensor):
                raise WorldError(
                    f"{type(optimiser).__name__} keeps {slot!r} as a {type(value).__name__}; only "
                    "optimisers whose state is tensors per parameter can be stored and resumed."
                )
            slots[f"{slot}/{name}"] = value
    return slots


def load_slots(
    optimiser: torch.optim.Optimizer, trained: Mapping[str, Tensor], slots: Mapping[str, Tensor]
) -> None:
    """Put stored state into a fresh optimiser; the tensors are copied.

    In the memory layout of their parameter, and where fused kernels want it: they go through memory
    without asking.
    """
    fused = bool(optimiser.param_groups[0].get("fused"))
    for key, value in slots.items():
        slot, name = key.split("/", 1)
        like = trained[name] if value.shape == trained[name].shape else value
        beside = trained[name].device if fused or like is not value else value.device
        held = torch.empty_like(like, dtype=value.dtype, device=beside, requires_grad=False)
        optimiser.state[trained[name]][slot] = held.copy_(value)


def copied(tensors: Mapping[str, Tensor]) -> Params:
    """A copy that later steps do not write into: plain tensors of the processor, whatever device
    and layout training has them in."""
    return Params(
        {
            name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
            for name, tensor in tensors.items()
        }
    )
