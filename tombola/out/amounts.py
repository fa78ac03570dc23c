"""Amounts as people say them."""


def duration(seconds: float) -> str:
    """About how long, in the largest unit that leaves two figures.

    >>> [duration(s) for s in (0.4, 40, 100, 5_000, 200_000)]
    ['1 s', '40 s', '2 min', '1 h 23 min', '2 d 8 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def size(number: float) -> str:
    """Bytes in decimal units.

    >>> [size(n) for n in (12, 2_300, 45_600_000)]
    ['12 bytes', '2.3 kB', '45.6 MB']
    """
    if number < 1_000:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1_000
        if number < 1_000:
            return f"{number:.1f} {unit}"
    return f"{number / 1_000:.1f} TB"


def several(number: int, thing: str) -> str:
    """A count and its noun.

    >>> several(1, "training"), several(1_200, "step")
    ('1 training', '1,200 steps')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
