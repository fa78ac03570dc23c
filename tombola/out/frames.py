"""The part of a traceback that is the user's own code."""

import re
import sysconfig
import traceback
from pathlib import Path

# A frame of a printed traceback: its first line, and the source lines and marks below it.
_FRAME = re.compile(r'  File "(.*?)", line \d+.*\n(?:    .*\n|  \[Previous .*\n)*')
_INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")
_NOT_THE_USERS = tuple(
    str(Path(folder).resolve())
    for folder in (str(Path(__file__).parents[1]), *map(sysconfig.get_path, _INSTALLED))
)


def users_part(text: str) -> str | None:
    """A printed traceback with the frames of the user's files alone; None if there are none."""
    found = False

    def shorten(frame: re.Match[str]) -> str:
        nonlocal found
        own = _is_the_users(frame[1])
        found = found or own
        return frame[0] if own else ""

    shortened = _FRAME.sub(shorten, text)
    return shortened if found else None


def printed(error: BaseException) -> str:
    """The whole traceback of an error, as Python prints it."""
    return "".join(traceback.format_exception(error))


def users_frames(error: BaseException) -> str:
    """The user's frames on the way to an error, without its message; empty if there are none."""
    entries = traceback.extract_tb(error.__traceback__)
    return "".join(traceback.format_list([e for e in entries if _is_the_users(e.filename)]))


def _is_the_users(file: str) -> bool:
    if file.startswith("<"):  # generated, or frozen into the interpreter
        return False
    return not str(Path(file).resolve()).startswith(_NOT_THE_USERS)
