"""The commands that train something: for messages, and for pages that say how they were made."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def find_command(names: Mapping[str, Any], seeds: Sequence[int]) -> str | None:
    """The `tombola find` that makes a study again; None for one made in Python.

    names: what `find` was called with, as a study notes it.

    >>> names = {"recipe": "imp", "world": "digits", "arms": ["dense", "reinit"], "draws": 3,
    ...          "rule": "matching", "controls_at": "judged", "data": None}
    >>> find_command(names, [0, 1, 2])
    'tombola find imp --on digits --seeds 3 --arms dense,reinit --draws 3'
    >>> find_command(names, [4]).partition(" --arms")[0]
    'tombola find imp --on digits --seeds 4,'
    """
    if not names:
        return None
    counted = list(seeds) == list(range(len(seeds)))
    listed = ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")
    parts = ["tombola", "find", names["recipe"], "--on", names["world"]]
    parts += ["--seeds", str(len(seeds)) if counted else listed, "--arms", ",".join(names["arms"])]
    usual = {"rule": "matching", "controls_at": "judged", "draws": 1, "data": None}
    for name, value in usual.items():
        if names[name] != value:
            parts += [f"--{name.replace('_', '-')}", str(names[name])]
    return shlex.join(parts)


def training_command(
    names: Mapping[str, Any], seeds: Sequence[int], arms: Iterable[str], **other: Any
) -> str:
    """What trains these arms besides a study's own: a command, or a call for one made in Python.

    other: names to change, such as the world.

    >>> training_command({}, [0, 1], ["thin"])
    "tombola.find(.., arms=(.., 'thin'))"
    """
    arms = [arm for arm in arms if arm not in names.get("arms", ())]
    if not names:
        changes = [f"arms=(.., {', '.join(map(repr, arms))})"] if arms else []
        changes += [f"{name}={value!r}" for name, value in other.items()]
        return f"tombola.find(.., {', '.join(changes)})"
    command = find_command({**names, **other, "arms": [*names["arms"], *arms]}, seeds)
    assert command is not None
    return command
