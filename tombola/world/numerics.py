"""What may change the bits of a result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.kernels.best import NAMES, best_kernel
from tombola.kernels.break_even import BREAK_EVEN

EXECUTORS = ("auto", "dense", "sparse", "stacked")
DTYPES = ("float32", "float64", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Part of the name of every result.

    executor: which implementation trains. `dense` is torch itself; `sparse` a kernel that computes
    with kept weights alone; `auto`, the usual, whichever of the two a table says is faster at that
    density. `stacked` advances trainings that are ready at one moment together: for many tiny
    networks, where the time goes into starting operations; its results do not depend on who was
    beside whom.
    What cannot serve a training leaves it to `dense`, and says why. kernel: of `sparse`, by the
    names of `tombola.kernels.best`; the fastest of this machine unless given. threads: torch
    threads of one training (a sum over threads is another rounding). dtype: of weights, inputs and
    arithmetic; floating tensors of the network and of its inputs are converted to it.

    Raises:
        WorldError: an executor, kernel or dtype there is not, or no thread.
    """

    executor: str = "auto"
    kernel: str = ""
    threads: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for what, known in (("executor", EXECUTORS), ("dtype", DTYPES), ("kernel", ("", *NAMES))):
            if getattr(self, what) not in known:
                wanted = ", ".join(repr(name) for name in known if name)
                raise WorldError(f"Numerics({what}={getattr(self, what)!r}): want one of {wanted}.")
        if not isinstance(self.threads, int) or self.threads < 1:
            raise WorldError(f"Numerics(threads={self.threads!r}): want 1 or more.")
        if self.executor in ("dense", "stacked"):
            object.__setattr__(self, "kernel", "")
        elif not self.kernel:
            object.__setattr__(self, "kernel", best_kernel().name)

    @property
    def identity(self) -> list[object]:
        """What the bits of a result depend on; for `auto` the table it chooses by, too."""
        table = BREAK_EVEN[self.kernel] if self.executor == "auto" else None
        return [self, table]

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
