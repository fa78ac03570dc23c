"""Pages that list what has a name: worlds, probes, rules, arms, results, guides, commands."""

from typing import Any

from tombola.lookup import catalogue
from website.pages import ROOT, Page, first_paragraph, relinked, results, title

ABOUT = {
    "worlds": "What a recipe is applied to: network, data, objective and length of training; `--on "
    "NAME`. Each is named at another learning rate or length as `digits,lr=0.01,steps=4000`; a "
    "network of 2019 on images of your own as `conv2@./photos`; one of your own as "
    "`package.module:NAME`.",
    "probes": "Analyses of a finished study: `tombola probe NAME STUDY`. [What each asks, and "
    "how](../probes.md).",
    "rules": "What a verdict is: `tombola judge STUDY --rule NAME`, or `find --rule NAME`. [How "
    "they judge](../judging.md).",
    "arms": "What a ticket is compared with: `find --arms dense,reinit,..`. Any recipe is an arm "
    "too.",
}


def catalogue_pages() -> list[Page]:
    """One page for each kind of thing that `tombola ls` lists, recipes aside."""
    return [
        Page(
            place=f"catalogue/{kind}.md",
            text=f"# {kind.capitalize()}\n\n{about} On the command line: `tombola ls {kind}`.\n\n"
            + _table(kind.removesuffix("s"), catalogue(kind)),
        )
        for kind, about in ABOUT.items()
    ]


def guides_page(menu: list[Any]) -> Page:
    """The guides in the order of the menu, each with its first paragraph."""
    parts = ["# Guides"]
    for section in menu:
        for heading, names in section.items():
            parts += [f"## {heading}", *map(_entry, names)]
    return Page(place="guides/index.md", text="\n\n".join(parts) + "\n")


def results_page() -> Page:
    """The reproductions, each with the first paragraph of its page."""
    parts = [
        "# Results",
        "Reproductions made by tombola itself: what was run, on what, our table against the "
        "published one. Each has its command, n, intervals, date and machine.",
    ]
    for folder in results():
        text = (ROOT / folder / "README.md").read_text()
        first = _quoted(text, f"{folder}/README.md", "results/index.md")
        parts += [f"## [{title(text)}](../../{folder})", first]
    return Page(place="results/index.md", text="\n\n".join(parts) + "\n")


def commands_page() -> Page:
    """Every command with its options, as `--help` has them."""
    import tombola.cli  # noqa: F401 (adds the commands)
    from tombola.cli.app import app

    text = app.generate_docs(output_format="markdown", usage_name="tombola")
    before, _, after = text.partition("## Table of Contents\n")
    commands = after[after.index("**Commands**") :]
    return Page(
        place="reference/commands.md",
        text=before.replace("# tombola", "# Command line", 1) + commands,
    )


def _entry(name: str | dict[str, str]) -> str:
    """A line of the guides; entries that the menu gives a title are no files under docs/."""
    if isinstance(name, dict):
        [(heading, place)] = name.items()
        return f"**[{heading}](../{place})**"
    text = (ROOT / "docs" / name).read_text()
    return f"**[{title(text)}](../{name})**: {_quoted(text, f'docs/{name}', 'guides/index.md')}"


def _quoted(text: str, origin: str, place: str) -> str:
    """What a document says first, with links that work where it is quoted."""
    return relinked(Page(place=place, text=first_paragraph(text), origin=origin))


def _table(kind: str, known: dict[str, str]) -> str:
    rows = [f"| `{name}` | {summary} |" for name, summary in known.items()]
    return f"| {kind} | |\n| --- | --- |\n" + "\n".join(rows) + "\n"
