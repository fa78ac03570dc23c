"""Which kernel this machine has."""

import functools

from tombola.kernels.chain import Kernel
from tombola.kernels.compiled import Compiled, library
from tombola.kernels.compiled_conv import CompiledConvolution
from tombola.kernels.conv import Convolution
from tombola.kernels.jit import Jit, compiled
from tombola.kernels.plain import Plain
from tombola.kernels.plain_conv import PlainConvolution

NAMES = ("c", "c plain", "numba", "torch")


@functools.cache
def best_kernel() -> Kernel:
    """The fastest kernel that runs here: C, else numba's, else torch. Found once."""
    if library() is not None:
        return Compiled()
    return Plain() if compiled() is None else Jit()


def kernel_named(name: str) -> Kernel | None:
    """The kernel of this name, one of `NAMES`; None where this machine lacks it."""
    if name == "torch":
        return Plain()
    if name == "numba":
        return None if compiled() is None else Jit()
    if library() is None:
        return None
    kernel = Compiled("plain") if name == "c plain" else Compiled()
    return kernel if kernel.name == name else None


def convolution_named(name: str) -> Convolution | None:
    """What computes single layers under this name, one of `NAMES`; None where this machine lacks
    it. Numba has no loops for them, so torch's twin serves there."""
    if name in ("numba", "torch"):
        return PlainConvolution()
    if kernel_named(name) is None:
        return None
    return CompiledConvolution("plain") if name == "c plain" else CompiledConvolution()
