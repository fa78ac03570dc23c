"""The tensors of several networks of one kind as one matrix, a network each row."""

from collections.abc import Mapping, Sequence

import torch
from torch import Size, Tensor

ENTRIES = 16


class Rows:
    """A matrix (networks, entries), and views of it as `name` -> (networks, *shape).

    Every tensor begins at a multiple of 16 entries of its row, and so do the rows: a vectorised
    loop over the matrix treats an entry alike in whichever row, and however many there are.

    Example:
        >>> rows = Rows({"w": Size([2])}, torch.float32, torch.device("cpu"), count=3)
        >>> rows.fill("w", [torch.ones(2), torch.zeros(2), torch.ones(2)])
        >>> rows.matrix.shape, rows.views["w"].sum(dim=1), rows.of(2)["w"]
        (torch.Size([3, 16]), tensor([2., 0., 2.]), tensor([1., 1.]))
    """

    def __init__(
        self, shapes: Mapping[str, Size], dtype: torch.dtype, device: torch.device, *, count: int
    ) -> None:
        self.shapes = dict(shapes)
        starts, width = {}, 0
        for name, shape in self.shapes.items():
            starts[name] = width
            width += -(-shape.numel() // ENTRIES) * ENTRIES
        self.matrix = torch.zeros(count, width, dtype=dtype, device=device)
        self.views = self.seen_in(self.matrix, starts)
        self._starts = starts

    def seen_in(self, matrix: Tensor, starts: Mapping[str, int] | None = None) -> dict[str, Tensor]:
        """Another matrix of this layout (of an optimiser, say) by name, as views."""
        at = self._starts if starts is None else starts
        return {
            name: matrix.detach()[:, at[name] : at[name] + shape.numel()].view(-1, *shape)
            for name, shape in self.shapes.items()
        }

    def fill(self, name: str, tensors: Sequence[Tensor]) -> None:
        """Copy one tensor of every network in."""
        for row, tensor in zip(self.views[name], tensors, strict=True):
            row.copy_(tensor)

    def of(self, row: int, matrix: Tensor | None = None) -> dict[str, Tensor]:
        """The tensors of one network, as views; of another matrix of this layout, if one is
        given."""
        views = self.views if matrix is None else self.seen_in(matrix)
        return {name: view[row] for name, view in views.items()}
