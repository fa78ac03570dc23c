"""How much memory something would take, said before it is taken."""

from tombola.errors import RecipeError


def gigabytes(count: float) -> str:
    """Bytes as decimal gigabytes.

    >>> gigabytes(8.4e8), gigabytes(1.5e12)
    ('0.8 GB', '1,500.0 GB')
    """
    return f"{count / 1e9:,.1f} GB"


def check_limit(where: str, limit: float) -> None:
    """Raise a RecipeError unless a limit in GB can be kept to."""
    if not 0.0 < limit < float("inf"):
        raise RecipeError(f"{where}(limit={limit}): want gigabytes, more than 0.")
