"""Pages of the site that no file under docs/ is, and how links find the way to them.

Written pages link to files of the repository as they do on the disk: `../results/transfer`,
`../tombola/kernels/chain.c`. On the site, documents under results/ are pages, other text is shown
with its lines coloured, folders are lists, and everything else is copied.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".sh": "bash", ".toml": "toml", ".yml": "yaml"}
FENCES = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$", flags=re.DOTALL | re.MULTILINE)
LINKS = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page: where it is on the site, its Markdown, and the file its links are relative to.

    place: such as `methods/imp.md`. origin: in the repository; by default as if it were in docs/.
    """

    place: str
    text: str
    origin: str = ""

    @property
    def home(self) -> str:
        return self.origin or f"docs/{self.place}"


def place_of(path: str) -> str | None:
    """Where the site has a file or folder of the repository; None if there is no such thing."""
    at = ROOT / path
    parts = Path(path).parts
    if not at.exists() or path.startswith(".."):
        return None
    if parts[:1] == ("docs",):
        return posixpath.join(*parts[1:]) if len(parts) > 1 else "index.md"
    if path == "README.md":
        return "readme.md"
    if parts[:1] == ("results",) and at.is_dir():
        return f"{path}/index.md"
    if parts[:1] == ("results",) and at.suffix == ".md":
        return path.removesuffix("README.md") + "index.md" if at.name == "README.md" else path
    if at.is_dir():
        return f"source/{path}/index.md"
    return f"source/{path}.md" if at.suffix in LANGUAGES else f"source/{path}"


def linked(page: Page) -> Iterator[str]:
    """The files and folders of the repository that a page links to."""
    for link in LINKS.finditer(FENCES.sub("", page.text)):
        path = _on_disk(link[1], page.home)
        if path is not None and place_of(path) is not None:
            yield path


def relinked(page: Page) -> str:
    """The page's Markdown with links to where the site has the files. What is nowhere stays as it
    is, for mkdocs to complain about."""
    text, folder = page.text, posixpath.dirname(page.place) or "."

    def moved(match: re.Match[str]) -> str:
        path = _on_disk(match[1], page.home)
        there = place_of(path) if path is not None else None
        if there is None:
            return match[0]
        return posixpath.relpath(there, folder) + (match[2] or "")

    pieces, end = [], 0
    for fence in FENCES.finditer(text):
        pieces += [LINKS.sub(moved, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINKS.sub(moved, text[end:])])


def page_for(path: str) -> Page | None:
    """The page that a file or folder of the repository becomes; None for what is copied as it is,
    and for what has a page already."""
    at, place = ROOT / path, place_of(path)
    if place is None or path.startswith("docs/") or path == "results":
        return None
    if path.startswith("results/") and at.is_dir():
        path = f"{path}/README.md"
        at = ROOT / path
    if at.is_dir():
        return Page(place=place, text=_folder(path), origin=f"{path}/index.md")
    if at.suffix == ".md":
        return Page(place=place, text=at.read_text(), origin=path)
    if at.suffix in LANGUAGES:
        return Page(place=place, text=_source(path))
    return None


def results() -> tuple[str, ...]:
    """The folders of reproductions."""
    return tuple(sorted(f"results/{at.parent.name}" for at in ROOT.glob("results/*/README.md")))


def title(text: str) -> str:
    """The heading of a page's Markdown."""
    return next(line[2:].strip() for line in text.splitlines() if line.startswith("# "))


def first_paragraph(text: str) -> str:
    """What a page says first, in one line that ends with a full stop."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    first = next(part for part in paragraphs if part and not part.startswith(("#", "|", "`" * 3)))
    return first.rstrip(".:") + "."


def doc_line(path: str) -> str:
    """The first line of a Python module's docstring; of other files nothing."""
    if not path.endswith(".py"):
        return ""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    return text.partition("\n")[0]


def _on_disk(target: str, origin: str) -> str | None:
    """What a link of a file means in the repository; None for addresses."""
    if re.match(r"[a-z]+:|/", target):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def _source(path: str) -> str:
    language = LANGUAGES[Path(path).suffix]
    text = (ROOT / path).read_text()
    return f"{UNSEARCHED}# `{path}`\n\n~~~~~~{language}\n{text}~~~~~~\n"


def _folder(path: str) -> str:
    files = sorted(at.name for at in (ROOT / path).iterdir() if at.suffix in LANGUAGES)
    lines = [f"- [`{name}`]({name}) {doc_line(f'{path}/{name}')}".rstrip() for name in files]
    return f"{UNSEARCHED}# `{path}/`\n\n" + "\n".join(lines) + "\n"
