"""The documentation's site: builds strictly, has all it should, and asks nothing of the network."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tombola
from tombola.lookup import catalogue, find_recipe
from tombola.pieces.action import Constant, KeepSign
from tombola.pieces.rule import ByScore
from tombola.pieces.score import Magnitude, When
from tombola.recipes.catalogue import RECIPES
from tombola.world.catalogue import WORLDS
from website.doctests import readable
from website.methods import definition, method_page, published, sections, shown, world_for
from website.ours import found_for, is_variant
from website.pages import ROOT, Page, linked, page_for, place_of, relinked, results
from website.reference import group_of, identifier, public


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a dead link, or a docstring that cannot be read, fails here."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_every_recipe_has_a_page_with_its_source(site: Path) -> None:
    for name in RECIPES:
        source = find_recipe(name).source.partition(" (arXiv")[0]
        assert source in text_of(site / f"methods/{name}.html")


def test_every_public_name_is_documented(site: Path) -> None:
    pages = [page.read_text() for page in site.glob("reference/*.html")]
    anchors = {found for page in pages for found in re.findall(r' id="([^"]+)"', page)}
    names = [identifier(thing) for _, thing in public()]
    assert len(names) > len(tombola._HOMES)
    assert [name for name in names if name not in anchors] == []


@pytest.mark.parametrize("kind", ["worlds", "probes", "rules", "arms"])
def test_all_that_has_a_name_is_listed(site: Path, kind: str) -> None:
    page = text_of(site / f"catalogue/{kind}.html")
    assert [name for name in catalogue(kind) if name not in page] == []


def test_every_guide_and_every_result_can_be_reached(site: Path) -> None:
    places = ("index", "guides/index", "results/index")
    home, guides, recorded = ((site / f"{place}.html").read_text() for place in places)
    written = {path.stem for path in ROOT.glob("docs/*.md")} - {"index", "tutorial"}
    assert [name for name in written if f'href="../{name}.html"' not in guides] == []
    assert len(results()) > 5
    folders = [Path(one).name for one in results()]
    assert [name for name in folders if f'href="{name}/index.html"' not in recorded] == []
    for place in ("tutorial", "guides/index", "methods/index", "results/index", "reference/index"):
        assert f'href="{place}.html"' in home


def test_commands_of_the_command_line_have_their_options(site: Path) -> None:
    page = text_of(site / "reference/commands.html")
    for word in ("tombola find", "tombola ship", "--seeds", "--arms", "--precision"):
        assert word in page


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loads = re.compile(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(https?:[^"]+)"')
    for page in site.rglob("*.html"):
        assert loads.findall(page.read_text()) == [], page
    assert "@import" not in "".join(style.read_text() for style in site.rglob("*.css"))


def test_the_command_of_a_page_names_a_world_that_takes_the_recipe() -> None:
    assert (world_for("imp"), world_for("obs")) == ("digits", "digits-small")
    named = {about["on"] for about in published().values() if "on" in about}
    assert {world.partition(",")[0] for world in named} <= set(WORLDS)


def test_published_facts_are_of_recipes_and_say_where_they_were_read() -> None:
    assert set(published()) <= set(RECIPES)
    for about in published().values():
        assert set(about) <= {"on", "facts"}
        for fact in about.get("facts", []):
            assert set(fact) == {"setting", "result", "where"}
            assert re.search(r"text|code|data|README", fact["where"])


def test_what_we_found_is_what_the_recorded_study_says() -> None:
    [lenet] = [one for one in found_for("imp") if "lenet-mnist" in one.path]
    assert "| 1.19 | 96.83 [96.39, 97.26] | 98.01 [97.76, 98.26] |" in lenet.shown()
    [rigl] = found_for("rigl")
    assert "`short-rigl` on `mnist-lenet-sgd`, n = 3 seeds" in rigl.shown()
    assert found_for("kd-rewind")[0].named == "kd-rewind"  # an arm of another recipe's study


def test_variants_of_a_recipe_are_told_by_name() -> None:
    assert all(is_variant(one, "imp") for one in ("imp", "imp-20", "imp-4-rounds", "short-imp"))
    assert not any(is_variant(one, "imp") for one in ("imp-rewind", "obs", "imp-20-x", "limp"))


def test_pieces_are_shown_as_one_would_write_them() -> None:
    assert shown(ByScore(score=Magnitude())) == "ByScore(score=Magnitude())"
    assert shown(Magnitude(when=When.START)) == "Magnitude(when=When.START)"
    assert shown(KeepSign(of=Constant())) == "KeepSign(of=Constant())"
    assert shown(find_recipe("obs").schedule).startswith("Densities(")


def test_a_recipe_is_shown_by_the_statement_that_makes_it() -> None:
    assert definition("imp").startswith('IMP = Recipe(\n    name="imp",')
    assert "STATIC_UNIFORM" in definition("static-uniform")  # one of several it assigns
    assert sum(len(names) for names in sections().values()) == len(RECIPES)


def test_what_differs_from_imp_is_marked() -> None:
    page = method_page("imp-rewind", {"guide.md": "# A guide\n\nabout `imp-rewind`\n"}).text
    assert "| **rewind** | `ToStep(step=100)` |" in page
    assert "| schedule | `LayerRates()` |" in page
    assert "Guide: [A guide](../guide.md)." in page


@pytest.mark.parametrize(
    ("written", "on_the_site"),
    [
        ("../results/transfer", "results/transfer/index.md"),
        ("../results/transfer/README.md#x", "results/transfer/index.md#x"),
        ("../tombola/kernels/chain.c", "source/tombola/kernels/chain.c.md"),
        ("../benchmarks", "source/benchmarks/index.md"),
        ("../README.md", "readme.md"),
        ("judging.md#one-density", "judging.md#one-density"),
        ("https://arxiv.org", "https://arxiv.org"),
        ("../no/such", "../no/such"),
        ("#here", "#here"),
    ],
)
def test_links_go_to_where_the_site_has_the_file(written: str, on_the_site: str) -> None:
    page = Page(place="guide.md", text=f"see [it]({written})\n\n```\nx[it]({written})\n```\n")
    assert relinked(page) == f"see [it]({on_the_site})\n\n```\nx[it]({written})\n```\n"


def test_links_of_documents_elsewhere_are_followed_from_there() -> None:
    page = Page(
        place="results/transfer/index.md",
        text="[a](../../docs/transfer.md), [b](study.py)",
        origin="results/transfer/README.md",
    )
    assert (
        relinked(page) == "[a](../../transfer.md), [b](../../source/results/transfer/study.py.md)"
    )
    assert list(linked(page)) == ["docs/transfer.md", "results/transfer/study.py"]


def test_files_become_pages_and_the_rest_is_copied() -> None:
    code, folder = page_for("tombola/kernels/chain.c"), page_for("benchmarks")
    assert code is not None
    assert code.text.count("~~~~~~c\n") == 1
    assert folder is not None
    assert "[`kills.py`](kills.py)" in folder.text
    document = "results/lenet-mnist-2019/study.json"
    assert page_for(document) is None
    assert place_of(document) == f"source/{document}"
    assert place_of("../elsewhere") is None


def test_examples_of_docstrings_are_fenced() -> None:
    fenced = "One.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    assert readable("One.\n\n>>> 1 + 1\n2\n\nMore.") == fenced
    assert readable("One.\n\nExample:\n    >>> 1\n    1") == "One.\n\nExamples:\n    >>> 1\n    1"


def test_a_name_in_a_module_of_no_page_is_an_error() -> None:
    assert group_of("tombola.pieces.score.magnitude.Magnitude") == "pieces.score"
    with pytest.raises(LookupError, match=r"no page of the reference is for tombola\.nowhere"):
        group_of("tombola.nowhere.Name")
