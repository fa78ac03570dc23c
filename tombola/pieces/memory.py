"""How much memory something would take, said before it is taken."""


def gigabytes(count: float) -> str:
    """Bytes as decimal gigabytes.

    >>> gigabytes(8.4e8), gigabytes(1.5e12)
    ('0.8 GB', '1,500.0 GB')
    """
    return f"{count / 1e9:,.1f} GB"
