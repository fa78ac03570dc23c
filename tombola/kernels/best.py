"""Which kernel this machine has."""

import functools

from tombola.kernels.chain import Kernel
from tombola.kernels.compiled import Compiled, library
from tombola.kernels.compiled_conv import CompiledConvolution
from tombola.kernels.conv import Convolution
from tombola.kernels.plain import Plain
from tombola.kernels.plain_conv import PlainConvolution

NAMES = ("c", "c plain", "torch")


@functools.cache
def best_kernel() -> Kernel:
    """The fastest kernel that runs here; found once."""
    return Plain() if library() is None else Compiled()


def kernel_named(name: str) -> Kernel | None:
    """The kernel of this name, one of `NAMES`; None where this machine lacks it."""
    if name == "torch":
        return Plain()
    best = best_kernel()
    if name == "c plain" and library() is not None:
        return Compiled("plain")
    return best if best.name == name else None


def convolution_named(name: str) -> Convolution | None:
    """What computes single layers under this name, one of `NAMES`; None where this machine lacks
    it."""
    if name == "torch":
        return PlainConvolution()
    if name == "c plain" and library() is not None:
        return CompiledConvolution("plain")
    if kernel_named(name) is None:
        return None
    return CompiledConvolution()
