"""What may change the bits of a result."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tombola.errors import WorldError
from tombola.kernels.best import NAMES, best_kernel
from tombola.kernels.break_even import BREAK_EVEN, LAYER_BREAK_EVEN
from tombola.world.device import NAMED, card, repeatable

EXECUTORS = ("auto", "dense", "sparse", "compact", "stacked")
DTYPES = ("float32", "float64", "bfloat16", "mixed-bfloat16")


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """How a training computes: what may change the bits of a result, and so is part of its name.

    executor: which implementation trains. `dense` is torch itself; `sparse` kernels that compute
    with kept weights alone, for whole chains of linear layers or else layer by layer; `compact`
    torch on the units that can matter; `auto`, the usual, `sparse` where a table says that it is
    faster at that density. `stacked` advances trainings that are ready at one moment together: for
    many tiny networks, where the time goes into starting operations; its results do not depend on
    who was beside whom.
    What cannot serve a training leaves it to `dense`, and says why. kernel: of `sparse`, by the
    names of `tombola.kernels.best`; the fastest of this machine unless given. threads: torch
    threads of one training (a sum over threads is another rounding). dtype: of weights, inputs and
    arithmetic; floating tensors of the network and of its inputs are converted to it. With
    `mixed-bfloat16` weights and optimiser stay float32 and torch's autocast chooses for each
    operation. channels_last: whether images and filters lie with their channels innermost.
    device: `cpu`, `cuda` or `cuda:1`: where steps and evaluations are computed; data of bytes goes
    there as bytes. Draws, scores and cuts are the processor's whatever the device. Training on a
    card is written and has not been run on one yet: `benchmarks/gpu.py` compares it with the
    processor.

    Raises:
        WorldError: an executor, kernel, dtype or device there is not, or no thread.
    """

    executor: str = "auto"
    kernel: str = ""
    threads: int = 1
    dtype: str = "float32"
    channels_last: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        for what, known in (("executor", EXECUTORS), ("dtype", DTYPES), ("kernel", ("", *NAMES))):
            if getattr(self, what) not in known:
                wanted = ", ".join(repr(name) for name in known if name)
                raise WorldError(f"Numerics({what}={getattr(self, what)!r}): want one of {wanted}.")
        if not isinstance(self.threads, int) or self.threads < 1:
            raise WorldError(f"Numerics(threads={self.threads!r}): want 1 or more.")
        if not isinstance(self.channels_last, bool):
            raise WorldError(
                f"Numerics(channels_last={self.channels_last!r:.60}): want True or False."
            )
        if not isinstance(self.device, str) or not NAMED.fullmatch(self.device):
            raise WorldError(
                f"Numerics(device={self.device!r:.60}): want 'cpu', 'cuda', or one of several "
                "cards such as 'cuda:1'."
            )
        if self.executor in ("dense", "compact", "stacked"):
            object.__setattr__(self, "kernel", "")
        elif not self.kernel:
            object.__setattr__(self, "kernel", best_kernel().name)

    @property
    def identity(self) -> list[object]:
        """What the bits of a result depend on; for `auto` the tables it chooses by, too, and of a
        card its model rather than its number."""
        place, tables = self.torch_device, None
        if self.executor == "auto":
            tables = [BREAK_EVEN[self.kernel], LAYER_BREAK_EVEN[self.kernel]]
        return [replace(self, device=place.type), tables, card(place)]

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of weights and inputs."""
        found: torch.dtype = getattr(torch, "float32" if self.mixed else self.dtype)
        return found

    @property
    def mixed(self) -> bool:
        """Whether torch chooses a dtype for each operation."""
        return self.dtype == "mixed-bfloat16"

    def autocast(self) -> AbstractContextManager[object]:
        """In which outputs and losses are computed."""
        if not self.mixed:
            return nullcontext()
        return torch.autocast(self.torch_device.type, torch.bfloat16)

    def convert(self, tensor: Tensor) -> Tensor:
        """A floating tensor in this dtype, images in their layout; any other as it is."""
        if not tensor.is_floating_point():
            return tensor
        layout = torch.channels_last if self.channels_last and tensor.dim() == 4 else None
        if layout is None:
            return tensor.to(self.torch_dtype)
        return tensor.to(self.torch_dtype, memory_format=layout)

    def place(self, network: nn.Module) -> nn.Module:
        """A network moved, in place, to the device and into the layout."""
        if self.device == "cpu" and not self.channels_last:
            return network
        if self.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.to(self.torch_device)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Compute with this many torch threads, and on a card the same bits each time."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with repeatable(self.torch_device):
                yield
        finally:
            torch.set_num_threads(before)
