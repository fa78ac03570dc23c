"""Where a training computes: the processor, or a card by name. Not run on a card yet."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tombola.errors import WorldError

NAMED = re.compile(r"cpu|cuda(:\d+)?")


def check_there(name: str) -> None:
    """Raise WorldError unless this machine has the device; asking starts none.

    A device that was started could not be used by processes forked later.
    """
    if name == "cpu":
        return
    count = torch.cuda.device_count()
    if (torch.device(name).index or 0) >= count:
        have = ", ".join(["'cpu'", *(f"'cuda:{place}'" for place in range(count))])
        why = "" if torch.backends.cuda.is_built() else "; this torch is built without CUDA"
        raise WorldError(f"Numerics(device={name!r}): there is none; want one of {have}{why}.")


def card(device: torch.device) -> str | None:
    """The model of a card, which decides how its libraries compute; None for the processor."""
    if device.type == "cpu" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(device)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Have a card compute the same bits each time, in whole float32; the processor does.

    An operation that cannot is an error of torch's that names it.
    """
    if device.type == "cpu":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.are_deterministic_algorithms_enabled()
    kept = (cudnn.allow_tf32, cudnn.benchmark, products.allow_tf32)
    torch.use_deterministic_algorithms(True)
    cudnn.allow_tf32, cudnn.benchmark, products.allow_tf32 = False, False, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.allow_tf32, cudnn.benchmark, products.allow_tf32 = kept
