"""What may change the bits of a result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import WorldError


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Part of the name of every result.

    executor: which implementation trains; there is `dense`. threads: torch threads of one training
    (a sum over threads is another rounding). dtype: of weights, inputs and arithmetic; floating
    tensors of the network and of its inputs are converted to it.

    Raises:
        WorldError: an executor or dtype there is not, or no thread.
    """

    executor: str = "dense"
    threads: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.executor != "dense":
            raise WorldError(f"Numerics(executor={self.executor!r}): there is 'dense'.")
        if self.dtype not in ("float32", "float64", "bfloat16"):
            raise WorldError(
                f"Numerics(dtype={self.dtype!r}): want 'float32', 'float64' or 'bfloat16'."
            )
        if not isinstance(self.threads, int) or self.threads < 1:
            raise WorldError(f"Numerics(threads={self.threads!r}): want 1 or more.")

    @property
    def torch_dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def convert(self, tensor: Tensor) -> Tensor:
        """A floating tensor in this dtype, any other as it is."""
        return tensor.to(self.torch_dtype) if tensor.is_floating_point() else tensor

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Compute with this many torch threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
