"""A page for each recipe of the catalogue, from the recipe itself."""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any

from tombola.lookup import find_recipe, find_world
from tombola.recipes.catalogue import RECIPES
from tombola.recipes.imp import IMP
from tombola.recipes.recipe import Recipe
from website.ours import Found, found_for
from website.pages import ROOT, Page, title

# The sections of the list, by module; a module that is not here gets its first line for a title.
SECTIONS = {
    "imp": "Iterative magnitude pruning",
    "retraining": "What to do after a cut",
    "snip": "What to cut before training",
    "foresight": "What to cut before training",
    "rigl": "Sparse training",
    "sparse_training": "Sparse training",
    "edge_popup": "Supermasks",
    "deconstructing": "Zeros, signs, and the values tickets start from",
    "distil": "Distillation",
    "transfer": "Pre-trained networks",
    "second_order": "Second order",
    "units": "Structured tickets",
}
# Where a command of a page can be run, the first that the recipe takes.
WORLDS = ("digits", "digits-small", "digits,steps=20000", "sentences-number")
PIECES = tuple(
    field.name for field in dataclasses.fields(Recipe) if field.name not in ("name", "source")
)
PUBLISHED = ROOT / "website" / "published.toml"


def sections() -> dict[str, list[str]]:
    """Section -> names of its recipes, in the catalogue's order."""
    found: dict[str, list[str]] = {}
    for name, home in RECIPES.items():
        module = home.partition(":")[0]
        heading = SECTIONS.get(module.rpartition(".")[2]) or _first_words(_module(name))
        found.setdefault(heading, []).append(name)
    return found


def method_pages() -> list[Page]:
    """The pages, the list of them first."""
    guides = {path.name: path.read_text() for path in sorted(ROOT.glob("docs/*.md"))}
    return [_list(), *(method_page(name, guides) for name in RECIPES)]


def method_page(name: str, guides: dict[str, str]) -> Page:
    """One recipe: what it is, how it is run, what was published and what we found."""
    recipe, module = find_recipe(name), _module(name)
    home = RECIPES[name].replace(":", ".")
    told = [
        f"[{title(text)}](../{file})"
        for file, text in guides.items()
        if f"`{name}`" in text and file not in ("index.md", "guides.md", "tutorial.md")
    ]
    path = f"tombola/{module.__name__.removeprefix('tombola.').replace('.', '/')}.py"
    parts = [
        f"# `{name}`",
        _with_links(recipe.source) + ".",
        f"Guide: {', '.join(told)}." if told else "",
        "## Run it",
        _commands(name, recipe),
        "## What it is made of",
        _pieces(recipe),
        "As code, in [`" + path + f"`](../../{path}); in Python `{_python_name(home)}`:",
        f"```python\n{definition(name)}\n```",
        _loop(recipe),
        "## What was published",
        _facts(name),
        "## What we found",
        _ours(found_for(name)),
        "## About the family",
        inspect.cleandoc(module.__doc__ or ""),
    ]
    return Page(place=f"methods/{name}.md", text="\n\n".join(part for part in parts if part) + "\n")


def definition(name: str) -> str:
    """The statement of the recipe's module that makes it."""
    module, constant = RECIPES[name].split(":")
    source = inspect.getsource(sys.modules[module])
    for node in ast.parse(source).body:
        names = (name for name in ast.walk(node) if isinstance(name, ast.Name))
        if isinstance(node, ast.Assign) and any(
            name.id == constant and isinstance(name.ctx, ast.Store) for name in names
        ):
            return ast.get_source_segment(source, node) or ""
    raise LookupError(f"{module} does not assign {constant} at its top level")


def world_for(name: str) -> str | None:
    """The first of our small worlds that the recipe can be applied to."""
    from tombola.errors import TombolaError

    named = published().get(name, {}).get("on")
    if named is not None:
        return str(named)
    for world in WORLDS:
        try:
            find_recipe(name).check(_world(world))
        except TombolaError:
            continue
        return world
    return None


@cache
def _world(name: str) -> Any:
    return find_world(name)


@cache
def published() -> dict[str, dict[str, Any]]:
    return tomllib.loads(PUBLISHED.read_text())


def _module(name: str) -> ModuleType:
    find_recipe(name)
    return sys.modules[RECIPES[name].partition(":")[0]]


def _first_words(module: ModuleType) -> str:
    return re.split(r"[.;:]", (module.__doc__ or module.__name__).strip())[0]


def _python_name(home: str) -> str:
    return "tb.recipes." + home.rpartition(".")[2]


def _with_links(source: str) -> str:
    """Numbers of arXiv as links."""
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", source)


def _commands(name: str, recipe: Recipe) -> str:
    world = world_for(name)
    if world is None:
        command = f"```\ntombola find {name} --on mylab:world\n```"
        return f"{command}\n\nNone of the small worlds that come with tombola suits it."
    commands = {
        f"tombola plan {name} --on {world}": "what would be trained, and how long",
        f"tombola find {name} --on {world} --seeds 5": "with the controls reinit and shuffle",
        f"tombola find imp --on {world} --arms dense,ticket,{name}": "as an arm of another study",
    }
    if name == "imp":
        commands.popitem()
    width = max(map(len, commands))
    lines = [f"{command:{width}}  # {says}" for command, says in commands.items()]
    return "\n".join(["```", *lines, "```"])


def _pieces(recipe: Recipe) -> str:
    """The pieces as a table, those that differ from `imp` marked."""
    rows = []
    for piece in PIECES:
        value = getattr(recipe, piece)
        differs = recipe.name != IMP.name and value != getattr(IMP, piece)
        mark = f"**{piece}**" if differs else piece
        rows.append(f"| {mark} | {_value(value)} | {_says(value)} |")
    note = "" if recipe.name == IMP.name else "\n\nIn bold: what differs from [`imp`](imp.md)."
    return "| piece | | what it does |\n| --- | --- | --- |\n" + "\n".join(rows) + note


def _value(value: Any) -> str:
    if value is None:
        return "as the world's"
    text = f"{value.__name__}" if inspect.isfunction(value) else shown(value)
    return f"`{text}`".replace("|", "\\|")


def shown(value: Any) -> str:
    """A piece as one would write it: fields at their defaults left out."""
    if not dataclasses.is_dataclass(value):
        return _plain(value)
    given = []
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if found != default:
            given.append(f"{field.name}={shown(found)}")
    return f"{type(value).__name__}({', '.join(given)})"


def _plain(value: Any) -> str:
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return "(" + ", ".join(shown(one) for one in value) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def _says(value: Any) -> str:
    """The first paragraph of the docstring of a piece; then, by name, of the pieces in it."""
    if value is None:
        return "every training after the first cut minimises the world's objective"
    if inspect.isfunction(value):
        return _first_paragraph(value)
    inner = [f"`{type(one).__name__}`: {_first_paragraph(type(one))}" for one in _inside(value)]
    return "<br>".join([_first_paragraph(type(value)), *inner])


def _inside(piece: Any) -> Iterator[Any]:
    """The pieces that a piece has in its fields, and those in theirs."""
    for field in dataclasses.fields(piece):
        one = getattr(piece, field.name)
        if dataclasses.is_dataclass(one):
            yield one
            yield from _inside(one)


def _first_paragraph(thing: Any) -> str:
    paragraph = inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def _loop(recipe: Recipe) -> str:
    loop = inspect.unwrap(recipe.loop)
    source = textwrap.dedent(inspect.getsource(loop)).rstrip()
    body = textwrap.indent(f"```python\n{source}\n```", "    ")
    return f'??? note "The loop that drives it: `{loop.__name__}`"\n\n{body}'


def _facts(name: str) -> str:
    facts = published().get(name, {}).get("facts", [])
    if not facts:
        return (
            "No figure that we could check against the paper's own text, code or data, so none is "
            "quoted here."
        )
    rows = [f"| {fact['setting']} | {fact['result']} | {fact['where']} |" for fact in facts]
    return "| setting | result | read in |\n| --- | --- | --- |\n" + "\n".join(rows)


def _ours(found: list[Found]) -> str:
    if not found:
        return "No recorded study of it yet; all of them: [results](../../results)."
    return "\n\n".join(one.shown() for one in found)


def _list() -> Page:
    lines = [
        "# Methods",
        f"{len(RECIPES)} recipes. Each page is made from the recipe itself: source, command, "
        "pieces, what was published where we could check it, and what we found. Any of them is a "
        "ticket, `tombola find NAME`, or an arm of another study, `--arms dense,ticket,NAME`.",
    ]
    for heading, names in sections().items():
        rows = [
            f"| [`{name}`]({name}.md) | {_with_links(find_recipe(name).source)} |" for name in names
        ]
        lines += [f"## {heading}", "| recipe | source |\n| --- | --- |\n" + "\n".join(rows)]
    return Page(place="methods/index.md", text="\n\n".join(lines) + "\n")
