"""Where a user keeps what can be made again."""

import os
from pathlib import Path


def user_cache() -> Path:
    """tombola's folder under $XDG_CACHE_HOME, or ~/.cache; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tombola"
