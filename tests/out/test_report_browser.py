"""The page in a real browser, cut off from any network: a study on real scans of digits.

Needs Chromium on the path. Where there is none these tests are skipped, unless CI=true or
TOMBOLA_REQUIRE_BROWSER=1: there a missing browser must not look like a page that works.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from report_studies import Filters, image_world, objects

import tombola as tb
from tombola.lab.study import Study
from tombola.recipes.imp import IMP

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK, PHONE = (1280, 900), (390, 844)
AS_OPENED = """
for (const slider of document.querySelectorAll("input[type=range]")) {
    slider.value = slider.max;
    slider.dispatchEvent(new Event("input"));
}
for (const select of document.querySelectorAll("select")) {
    select.selectedIndex = [...select.options].findIndex((o) => o.defaultSelected);
    select.selectedIndex = Math.max(0, select.selectedIndex);
    select.dispatchEvent(new Event("change"));
}
document.querySelectorAll(".legend [aria-pressed=false]").forEach((button) => button.click());
"""
NAMES = {
    "recipe": "imp",
    "world": "digits-short",
    "rule": "matching",
    "arms": ["dense", "reinit"],
    "controls_at": "all",
    "draws": 1,
    "data": None,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = f"none of {', '.join(names)} is on the path"
        if os.environ.get("CI") == "true" or os.environ.get("TOMBOLA_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{reason}, but a browser was promised here")
        pytest.skip(f"{reason}; the page was not opened")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and everything that it should not have done."""

    page: Page
    amiss: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return " ".join((self.page.locator(selector).first.text_content() or "").split())

    def picture(self, canvas: str) -> str:
        """Every dot of a canvas."""
        return str(self.page.evaluate("id => document.getElementById(id).toDataURL()", canvas))

    def colour(self, name: str) -> str:
        """What a style variable stands for."""
        style = "getComputedStyle(document.documentElement)"
        return str(self.page.evaluate(f"{style}.getPropertyValue('{name}').trim()"))

    def slide(self, slider: str, place: int) -> None:
        self.page.locator(f"#{slider}").evaluate(
            "(e, place) => { e.value = place; e.dispatchEvent(new Event('input')); }", place
        )

    def traces(self, chart: str) -> list[str]:
        """The arms of the lines that a chart shows."""
        found = self.page.evaluate(
            "id => document.querySelector(id).data.filter((t) => t.visible && t.legendgroup)"
            ".map((t) => t.legendgroup)",
            chart,
        )
        return sorted(set(found))

    def hover(self, chart: str, arm: str) -> str:
        """What the label says at an arm's last point."""
        box = self.page.locator(chart).first
        box.scroll_into_view_if_needed()
        spot = self.page.evaluate(
            """([id, arm]) => {
                const chart = document.querySelector(id);
                const trace = chart.data.filter((t) => t.legendgroup === arm && t.text).at(-1);
                const { xaxis, yaxis, _size } = chart._fullLayout;
                const box = chart.getBoundingClientRect();
                return [box.left + _size.l + xaxis.d2p(trace.x.at(-1)),
                        box.top + _size.t + yaxis.d2p(trace.y.at(-1))];
            }""",
            [chart, arm],
        )
        self.page.mouse.move(spot[0] - 30, spot[1] - 5)
        self.page.mouse.move(*spot)
        label = box.locator(".hovertext").first
        label.wait_for(timeout=5_000)
        return label.text_content() or ""


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens pages without a network; at the end, nothing may have gone amiss in any."""
    opened: list[Opened] = []

    def visit(path: Path, size: tuple[int, int] = DESK, scheme: str = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, offline=True, color_scheme=scheme
        )
        one = Opened(context.new_page())
        opened.append(one)
        one.page.on("console", lambda said: one.amiss.append(f"console: {said.text}"))
        one.page.on("pageerror", lambda error: one.amiss.append(f"error: {error}"))
        one.page.on("request", lambda request: _outside(one, request.url))
        one.page.goto(path.resolve().as_uri())
        one.page.wait_for_selector("html[data-ready]", timeout=60_000)
        return one

    yield visit
    assert [amiss for one in opened for amiss in one.amiss] == []


def _outside(opened: Opened, url: str) -> None:
    if not url.startswith(("file:", "data:", "blob:")):
        opened.amiss.append(f"request: {url}")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    world = replace(tb.worlds.digits_short(), steps=100)
    return tb.find(IMP, world, seeds=2, store=tmp_path_factory.mktemp("browser") / "store")


@pytest.fixture(scope="module")
def report(study: Study) -> Path:
    return tb.report(study)


@pytest.fixture(scope="module")
def window(visit: Callable[..., Opened], report: Path) -> Opened:
    return visit(report)


@pytest.fixture
def desk(window: Opened) -> Opened:
    """The page as it opens, in one window for all tests."""
    window.page.evaluate(AS_OPENED)
    return window


@pytest.fixture(scope="module")
def night(
    visit: Callable[..., Opened], study: Study, tmp_path_factory: pytest.TempPathFactory
) -> Opened:
    """The page of the study as the command line makes it, in the dark."""
    asked = replace(study, facts={**study.facts, "names": NAMES})
    path = tmp_path_factory.mktemp("night") / "page.html"
    return visit(tb.report(asked, path), scheme="dark")


def test_the_charts_are_drawn_and_the_verdict_is_read(desk: Opened, study: Study) -> None:
    assert desk.text(".outcome") == study.verdict.outcome.name
    assert desk.page.locator(".chart .main-svg").count() >= 5
    assert desk.traces("#chart-metric") == ["dense", "reinit", "shuffle", "ticket"]
    assert desk.page.locator("#failed").is_hidden()
    assert desk.page.locator("#table tbody tr").count() == len(study.rows)


def test_charts_take_the_colours_of_the_page(desk: Opened, night: Opened) -> None:
    for opened, expected in ((desk, "#0072b2"), (night, "#5bb2ee")):
        drawn = opened.page.evaluate(
            "document.querySelector('#chart-metric').data"
            ".find((t) => t.legendgroup === 'ticket').marker.color"
        )
        assert drawn == opened.colour("--ticket") == expected


def test_pointing_at_a_chart_says_every_seed_and_n(desk: Opened, study: Study) -> None:
    row = next(r for r in reversed(study.rows) if r["arm"] == "ticket")
    label = desk.hover("#chart-metric", "ticket")
    assert "ticket" in label and "n = 2" in label and f"{row['kept']:,}" in label
    for seed, value in enumerate(row["metrics"]["test_accuracy"]["values"]):
        assert f"seed {seed}: {value:.4f}".replace("0.", ".", 1) in label
    assert "n = 2" in desk.hover("#chart-stop", "reinit")
    assert "n = 2" in desk.hover(".chart.curve", "ticket")


def test_the_legend_hides_and_shows_an_arm_in_every_chart(desk: Opened) -> None:
    button = desk.page.get_by_role("button", name="reinit")
    charts = ("#chart-metric", "#chart-stop", ".chart.curve")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    for chart in charts:
        assert desk.traces(chart) == ["dense", "shuffle", "ticket"]
    button.click()
    for chart in charts:
        assert "reinit" in desk.traces(chart)


def test_another_metric_can_be_chosen(desk: Opened, study: Study) -> None:
    rows = [row for row in study.rows if row["arm"] == "ticket"]
    for metric in ("test_loss", "test_accuracy"):
        desk.page.locator("#metric").select_option(metric)
        drawn = desk.page.evaluate(
            "document.querySelector('#chart-metric').data.find((t) => t.legendgroup === 'ticket').y"
        )
        assert drawn == [row["metrics"][metric]["mean"] for row in rows]


def test_the_round_of_the_curves_can_be_chosen(desk: Opened, study: Study) -> None:
    last = int(desk.page.locator("#curve-round").get_attribute("max"))
    judged = study.facts["setting"]["judged_round"]
    assert desk.text("#curve-round-value").startswith(f"{judged}, density .")
    assert desk.text("#curve-round-value").endswith("judged")
    assert desk.traces(".chart.curve") == ["dense", "reinit", "shuffle", "ticket"]
    desk.slide("curve-round", 1)
    assert desk.text("#curve-round-value") == "1, density .8020"
    assert "ticket" in desk.traces(".chart.curve") and last == judged
    assert desk.traces(".chart.curve") != ["dense", "reinit", "shuffle", "ticket"]


def test_pictures_follow_round_seed_and_values(desk: Opened, study: Study) -> None:
    rows = {row["round"]: row for row in study.rows if row["arm"] == "ticket"}
    seen = {desk.picture("units")}
    for place in (0, 1):
        desk.slide("picture-round", place)
        kept = next(
            t["kept"]["layers.0.weight"]
            for t in study.facts["trials"]
            if (t["arm"], t["seed"], t["round"]) == ("ticket", 0, place)
        )
        assert f"Seed 0, round {place}: {kept:,} of 19,200 weights kept" in desk.text(
            "#picture-says"
        )
        seen.add(desk.picture("units"))
    desk.page.locator("#picture-seed").select_option("1")
    assert desk.text("#picture-says").startswith("Seed 1, round 1:")
    seen.add(desk.picture("units"))
    desk.page.locator("#picture-values").select_option("start")
    seen.add(desk.picture("units"))
    assert len(seen) == 5 and len(rows) == 6


def test_pointing_at_a_unit_reads_its_mask(desk: Opened, study: Study) -> None:
    name, judged = "layers.0.weight", study.facts["setting"]["judged_round"]
    mask = study.ticket(seed=0, round=judged).mask.of(name, (300, 64))
    weights = study.params(seed=0, round=judged)[name]
    unit = 2
    row, column = divmod(int(mask[unit].nonzero()[3]), 8)
    canvas = desk.page.locator("#units")
    canvas.scroll_into_view_if_needed()
    box, dots = canvas.bounding_box(), canvas.evaluate("c => c.width")
    scale = box["width"] / dots
    desk.page.mouse.move(
        box["x"] + (unit * 9 + column + 0.5) * scale, box["y"] + (row + 0.5) * scale
    )
    value = float(weights[unit, 8 * row + column])
    said = desk.text("#picture-hover")
    assert desk.text("#chosen") == f"Unit {unit}"
    assert said.startswith(
        f"Keeps {int(mask[unit].sum())} of 64 weights; row {row}, column {column}"
    )
    assert float(said.split("about ")[1].rstrip(".")) == pytest.approx(value, abs=0.01)


def test_the_map_of_pixels_counts_the_mask(desk: Opened, study: Study) -> None:
    mask = study.ticket(seed=0).mask.of("layers.0.weight", (300, 64))
    canvas = desk.page.locator("#positions")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    desk.page.mouse.move(box["x"] + box["width"] * 5.5 / 8, box["y"] + box["height"] * 2.5 / 8)
    kept = int(mask[:, 2 * 8 + 5].sum())
    assert desk.text("#picture-hover").startswith(
        f"Pixel row 2, column 5 keeps {kept} of 300 weights"
    )
    most = float(mask.float().mean(dim=0).max())
    assert desk.text("#positions-most") == f"{most:.2f}"


def test_filters_are_drawn_with_their_channels(visit, tmp_path) -> None:
    study = tb.find(IMP, image_world(Filters), seeds=1, arms=("dense",), store=tmp_path / "s")
    opened = visit(tb.report(study))
    layer, judged = "0.weight", study.facts["setting"]["judged_round"]
    mask = study.ticket(seed=0, round=judged).mask.of(layer, (4, 2, 3, 3))
    assert f"{int(mask.sum())} of 72 weights kept" in opened.text("#picture-says")
    canvas = opened.page.locator("#positions")
    canvas.scroll_into_view_if_needed()
    box, dots = canvas.bounding_box(), canvas.evaluate("c => [c.width, c.height]")
    scale = box["width"] / dots[0]
    opened.page.mouse.move(box["x"] + 5.5 * scale, box["y"] + 2.5 * scale)
    kept = int(mask[1, :, 2, 1].sum())
    assert opened.text("#picture-hover").startswith(
        f"Filter 1, kernel row 2, column 1 keeps {kept} of 2 input channels"
    )


def test_it_reads_on_a_phone_without_scrolling_sideways(visit, report, study) -> None:
    opened = visit(report, PHONE)
    wide, seen = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide == seen == 390
    words = opened.page.locator("main").inner_text()
    for text in (study.verdict.outcome.value[1:], "lower bound", "What the first layer keeps"):
        assert text in words
    for chart in opened.page.locator(".chart").all():
        box = chart.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_what_the_store_lost_does_not_stop_the_page(visit, tmp_path) -> None:
    study = tb.find(IMP, image_world(), seeds=1, arms=("dense",), store=tmp_path / "s")
    for path in objects(study.store):
        path.unlink()
    opened = visit(tb.report(study))
    assert "its mask is no longer in the store" in opened.text("#picture-says")
    assert "No longer in the store" in opened.text("#curves .gone")
    assert opened.traces("#chart-metric") == ["dense", "ticket"]


def test_paper_gets_light_colours_and_charts_of_its_width(night: Opened) -> None:
    assert night.page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    night.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert night.colour("--ticket") == "#0072b2"
    assert night.page.evaluate("document.querySelector('.chart.layers').clientWidth") == 690
    night.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert night.colour("--ticket") == "#5bb2ee"


def test_the_command_can_be_copied_or_is_marked(night: Opened) -> None:
    command = "tombola find imp --on digits-short --seeds 2 --arms dense,reinit --controls-at all"
    assert night.text("#command") == command
    night.page.locator("#copy").click()
    expect(night.page.locator("#copy")).not_to_have_text("Copy")
    if night.text("#copy") == "Marked":
        assert night.page.evaluate("getSelection().toString()") == command
    else:
        assert night.text("#copy") == "Copied"


def test_what_probes_found_is_drawn_and_hidden_with_its_arm(visit, tmp_path) -> None:
    study = tb.find(IMP, image_world(), seeds=2, arms=("dense", "reinit"), store=tmp_path / "s")
    tb.probe(tb.probes.OVERLAP, study)
    opened = visit(tb.report(study), PHONE)
    assert opened.page.locator(".chart.of-probe").count() == 6
    assert opened.page.locator(".chart.of-probe:has(.main-svg)").count() == 6
    wide, seen = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide == seen
    assert opened.traces(".chart.of-probe") == ["dense", "reinit", "ticket"]
    opened.page.locator(".legend button[data-arm=reinit]").click()
    assert opened.traces(".chart.of-probe") == ["dense", "ticket"]
