"""Pages of all public names, from their docstrings."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

import tombola
from website.pages import Page

# Pages of the reference, by the first parts of a module's name after `tombola`; the longest that
# fits is taken, so that a name in a new module stands on the page of its layer.
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "lab": "Finding and judging",
        "lab.probe": "Probes",
        "world": "Worlds",
        "recipes": "Recipes and controls",
        "pieces": "Rules, scopes and rewinds",
        "pieces.score": "Scores",
        "pieces.schedule": "Schedules",
        "pieces.allocation": "Allocations",
        "pieces.parametrisation": "Parametrisations",
        "pieces.dynamics": "Dynamics",
        "pieces.action": "Actions",
        "out": "Reports and shipped files",
        "values": "Tickets, masks, parameters",
        "errors": "Errors",
        "testing": "Contract checks",
    }
)


def public() -> Iterator[tuple[str, Any]]:
    """Every class and function that `import tombola as tb` gives, as it is written there."""
    for name in tombola._HOMES:
        yield f"tb.{name}", getattr(tombola, name)
    for module, home in tombola._MODULES.items():
        found = importlib.import_module(home)
        for name in getattr(found, "__all__", None) or vars(found):
            thing = getattr(found, name)
            own = getattr(thing, "__module__", "").startswith(home) and not name.startswith("_")
            if own and (inspect.isclass(thing) or inspect.isfunction(thing)):
                yield f"tb.{module}.{name}", thing


def reference_pages() -> list[Page]:
    """The list of names, then one page for each group of them, in the order of `TITLES`."""
    groups: dict[str, dict[str, tuple[str, Any]]] = {group: {} for group in TITLES}
    for written, thing in public():
        home = identifier(thing)
        groups[group_of(home)].setdefault(home, (written, thing))
    groups = {group: names for group, names in groups.items() if names}
    return [_list(groups), *(_page(group, names) for group, names in groups.items())]


def identifier(thing: Any) -> str:
    """Where a class or function is defined, which is its anchor on the site."""
    return f"{thing.__module__}.{thing.__qualname__}"


def group_of(home: str) -> str:
    """The page on which a name stands."""
    parts = home.split(".")[1:]
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in TITLES:
            return ".".join(parts[:length])
    raise LookupError(f"no page of the reference is for {home}; give its layer one in {__file__}")


def _page(group: str, names: Mapping[str, tuple[str, Any]]) -> Page:
    directives = [_directive(home, thing) for home, (_, thing) in names.items()]
    text = "\n\n".join([f"# {TITLES[group]}", *directives]) + "\n"
    return Page(place=f"reference/{group.replace('.', '-')}.md", text=text)


def _directive(home: str, thing: Any) -> str:
    """What mkdocstrings replaces; the members of an enumeration are shown, though they say nothing
    but their values."""
    members = inspect.isclass(thing) and issubclass(thing, Enum)
    return f"::: {home}" + ("\n    options: {show_if_no_docstring: true}" if members else "")


def _list(groups: Mapping[str, Mapping[str, tuple[str, Any]]]) -> Page:
    parts = [
        "# Reference",
        "All public names, after `import tombola as tb`. The [command line](commands.md) has a "
        "page of its own.",
    ]
    for group, names in groups.items():
        rows = [
            f"| [`{written}`][{home}] | {_says(thing)} |"
            for home, (written, thing) in names.items()
        ]
        parts += [f"## {TITLES[group]}", "| | |\n| --- | --- |\n" + "\n".join(rows)]
    return Page(place="reference/index.md", text="\n\n".join(parts) + "\n")


def _says(thing: Any) -> str:
    paragraph = inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")
