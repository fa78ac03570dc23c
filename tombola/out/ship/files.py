"""A file that is there whole, and found to be right, or not at all."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tombola.errors import ShipError, WorkError

T = TypeVar("T")


def check_folder(folder: Path) -> None:
    """Raise ShipError unless files can be put there, before work starts."""
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ShipError(f"--out {folder}: {above} is not a folder one can write to. Name another.")


def deliver(content: bytes, target: Path, check: Callable[[bytes], T]) -> T:
    """Write under a temporary name, read back, check what was read, rename.

    Returns what `check` returns. Whatever it raises, no file is left.

    Raises:
        ShipError: the folder cannot be written.
        WorkError: the disk is full.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        result = check(temporary.read_bytes())
        temporary.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkError(
                f"{target}: the disk is full. Make room and repeat the command, or "
                "name another folder with --out."
            ) from error
        raise ShipError(
            f"{target} cannot be written: {error}. Name another folder with --out."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return result
