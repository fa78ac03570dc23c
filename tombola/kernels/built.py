"""Finds the shared libraries that were built with the package."""

import ctypes
import sysconfig
from collections.abc import Callable
from pathlib import Path

VARIANTS = ("plain", "avx2", "avx512")  # instruction sets, as `sets.h` numbers them


def built(
    name: str, asks: str, interface: int, declare: Callable[[ctypes.CDLL], None]
) -> ctypes.CDLL | None:
    """The library `_<name>` beside this file; None where there was no compiler.

    asks: its function that tells its interface; another one than `interface` is another version of
    the source, and as good as none. declare: gives its functions their types.
    """
    for suffix in (".abi3.so", sysconfig.get_config_var("EXT_SUFFIX"), ".so", ".pyd"):
        path = Path(__file__).with_name(f"_{name}{suffix}")
        if path.exists():
            return loaded(path, asks, interface, declare)
    return None


def loaded(
    path: Path, asks: str, interface: int, declare: Callable[[ctypes.CDLL], None]
) -> ctypes.CDLL | None:
    """The library in this file; None if it is of another machine or version, or none of ours."""
    try:
        found = ctypes.CDLL(str(path))
        if getattr(found, asks)() != interface:
            return None
        declare(found)
    except (OSError, AttributeError):
        return None
    return found
