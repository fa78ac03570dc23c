"""What mkdocs calls: adds the generated pages and their places in the menu, and mends links."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

# mkdocs imports this file alone; its neighbours, and the package as it is here, are found so.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page as SitePage

from website.lists import catalogue_pages, commands_page, guides_page, results_page
from website.methods import method_pages, sections
from website.pages import ROOT, Page, linked, page_for, place_of, relinked, results
from website.reference import reference_pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The menu: what mkdocs.yml says, guides that it does not name, and the generated pages."""
    assert config.nav is not None
    guides = next(entry["Guides"] for entry in config.nav if "Guides" in entry)
    more = unnamed(config.nav, [at.name for at in written()])
    guides += [{"More": more}] if more else []
    made()["guides/index.md"] = guides_page(guides)
    guides.insert(0, "guides/index.md")
    methods = [
        {heading: [{name: f"methods/{name}.md"} for name in names]}
        for heading, names in sections().items()
    ]
    config.nav += [
        {"Methods": ["methods/index.md", *methods]},
        {"Catalogue": [page.place for page in catalogue_pages()]},
        {"Results": ["results/index.md", *(f"{folder}/index.md" for folder in results())]},
        {"Reference": [page.place for page in reference()]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The generated pages, and all that they and the written ones link to."""
    for page in made().values():
        files.append(File.generated(config, page.place, content=page.text, **_unlisted(page)))
    for path in copied():
        place = place_of(path)
        assert place is not None
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: SitePage, **kwargs: Any) -> str:
    """Links to the repository's files, made links to where the site has them."""
    place = page.file.src_uri
    origin = made()[place].origin if place in made() else ""
    return relinked(Page(place=place, text=markdown, origin=origin))


def unnamed(nav: list[Any], names: list[str]) -> list[str]:
    """Those of the pages under docs/ that the menu does not name."""

    def named(entry: Any) -> set[str]:
        if isinstance(entry, str):
            return {entry}
        parts = entry.values() if isinstance(entry, dict) else entry
        return {name for part in parts for name in named(part)}

    return [name for name in names if name not in named(nav)]


def written() -> list[Path]:
    """The pages under docs/."""
    return sorted(ROOT.glob("docs/*.md"))


@cache
def reference() -> list[Page]:
    """The list of public names, the command line, and the names by group."""
    first, *rest = reference_pages()
    return [first, commands_page(), *rest]


@cache
def made() -> dict[str, Page]:
    """Every page that is not under docs/, by place."""
    pages = [*method_pages(), *catalogue_pages(), results_page(), *reference()]
    found = {page.place: page for page in pages}
    queue = [*pages, *(Page(place=at.name, text=at.read_text()) for at in written())]
    while queue:
        for path in linked(queue.pop()):
            page = page_for(path)
            if page is not None and page.place not in found:
                found[page.place] = page
                queue.append(page)
    return found


@cache
def copied() -> tuple[str, ...]:
    """Files of the repository that pages link to and that are no pages."""
    pages = [Page(place=at.name, text=at.read_text()) for at in written()] + [*made().values()]
    paths = sorted(
        {path for page in pages for path in linked(page) if not path.startswith("docs/")}
    )
    return tuple(path for path in paths if page_for(path) is None and (ROOT / path).is_file())


def _unlisted(page: Page) -> dict[str, Any]:
    """Pages of files are reached by links alone."""
    in_menu = not page.origin or page.origin.endswith("README.md")
    source = page.place.startswith("source/")
    return {} if in_menu and not source else {"inclusion": InclusionLevel.NOT_IN_NAV}
