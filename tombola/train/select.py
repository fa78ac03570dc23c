"""Zeroing cut entries in place, by selection of bits, fast enough to do at every step."""

import torch
from torch import Tensor

from tombola.values.mask import BITS


class Selection:
    """Keeps the entries of a tensor where `kept` is True and makes the others exactly +0.0.

    A bitwise AND with all ones or all zeros: an exact selection (`-w` becomes +0.0, infinity and
    NaN become +0.0) at the speed of a product. Filling by a boolean mask is forty times slower on
    the CPU (790 against 18 microseconds for 300 x 784 at half density).

    Example:
        >>> t = torch.tensor([-1.0, float("inf"), 3.0])
        >>> Selection(torch.tensor([False, False, True]), t.dtype).zero_cut_(t)
        >>> t, bool(torch.signbit(t).any())
        (tensor([0., 0., 3.]), False)
    """

    def __init__(self, kept: Tensor, dtype: torch.dtype) -> None:
        self._integer = BITS[dtype.itemsize]
        self._bits = -kept.to(self._integer)  # -1 is all ones

    def zero_cut_(self, tensor: Tensor) -> None:
        tensor.view(self._integer).bitwise_and_(self._bits)

    def cut_is_zero(self, tensor: Tensor) -> bool:
        """Whether every cut entry is +0.0, bit for bit."""
        return not bool((tensor.view(self._integer) & ~self._bits).any())

    def cut_is_same(self, tensor: Tensor, other: Tensor) -> bool:
        """Whether two tensors have the same cut entries, bit for bit."""
        differ = tensor.view(self._integer) ^ other.view(self._integer)
        return not bool((differ & ~self._bits).any())
