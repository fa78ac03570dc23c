"""A step recorded once on a card and replayed: one call instead of hundreds. Not run on one yet."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tombola.world.batch import Batch, leaves

WARMED = 3  # times a step is made before it is recorded, as torch asks: libraries set up workspaces


class Replay:
    """`step`, recorded as a CUDA graph with the batch it is recorded on as its place for others.

    step: reads the batch it is handed and writes into tensors that stay where they are. state: asks
    for all it writes, which is put back as it was before: recording leaves no trace. What is not
    there before, such as the memory of an optimiser, is put to zero.
    """

    def __init__(
        self,
        step: Callable[[Batch], None],
        batch: Batch,
        state: Callable[[], Sequence[Tensor]],
    ) -> None:
        self._batch = batch
        with torch.cuda.device(batch.index.device):
            self._graph = self._recorded(step, state)

    def _recorded(
        self, step: Callable[[Batch], None], state: Callable[[], Sequence[Tensor]]
    ) -> torch.cuda.CUDAGraph:
        before = {id(tensor): tensor.detach().clone() for tensor in state()}
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARMED):
                step(self._batch)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(self._batch)
        with torch.no_grad():
            for tensor in state():
                if id(tensor) in before:
                    tensor.copy_(before[id(tensor)])
                else:
                    tensor.zero_()
        return graph

    def __call__(self, batch: Batch) -> None:
        """Make the step on another batch of the same shapes."""
        for own, new in zip(self._tensors(self._batch), self._tensors(batch), strict=True):
            own.copy_(new)
        self._graph.replay()

    @staticmethod
    def _tensors(batch: Batch) -> list[Tensor]:
        return [*leaves(batch.inputs), *leaves(batch.targets), batch.index]
