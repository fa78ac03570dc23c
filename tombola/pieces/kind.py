"""Whether an object can be what it is given as."""


def not_a(kind: type, piece: object) -> str | None:
    """Why an object cannot serve as a `kind`, a protocol or a class; None if it can.

    >>> from tombola.pieces.schedule import Densities, Schedule
    >>> not_a(Schedule, Densities(values=(.5,)))
    >>> not_a(Schedule, .5)
    '0.5 is not a Schedule: it has no targets'
    >>> not_a(Schedule, Densities)
    'Densities is a class; want an object of it, such as Densities(...)'
    """
    if isinstance(piece, type):
        name = piece.__name__
        return f"{name} is a class; want an object of it, such as {name}(...)"
    members = {*vars(kind), *vars(kind).get("__annotations__", ())}
    wanted = sorted(name for name in members if not name.startswith("_") or name == "__call__")
    lacking = [name for name in wanted if not hasattr(piece, name)]
    if not lacking:
        return None
    said = ", ".join("a call" if name == "__call__" else name for name in lacking)
    return f"{piece!r:.60} is not a {kind.__name__}: it has no {said}"
