"""Where data sets lie on this machine."""

import os
from pathlib import Path

from tombola.errors import WorldError
from tombola.folders import user_cache


def data_folder(given: str | Path | None = None) -> Path:
    """`given`, else $TOMBOLA_DATA, else the user's cache folder."""
    if given is not None:
        return Path(given)
    if os.environ.get("TOMBOLA_DATA"):
        return Path(os.environ["TOMBOLA_DATA"])
    return user_cache()


def find_file(folder: Path, names: tuple[str, ...], what: str, advice: str) -> Path:
    """The first of `names` that exists under `folder`.

    Raises:
        WorldError: none does; says where it was looked for and what to do.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder / name) for name in names)
    raise WorldError(f"{what} not found; looked for {looked}. {advice}")
