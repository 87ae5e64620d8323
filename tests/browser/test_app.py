"""The app as a whole in a real browser: deep links, long work, and a layout that neither clips, scrolls nor jumps."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser import app, chart
from tests.browser.app import APP, CHART, PAGES, figure, go, open_prune, press, settle
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import StartServer, open_app, wait_until_idle

pytestmark = pytest.mark.browser

SIZES = ((1280, 800), (1920, 1080))
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(APP, app.folders(root))


@pytest.mark.journey
@pytest.mark.parametrize("title", ["Spectra", "Activations"])  # the other tests begin with /prune
def test_a_deep_link_on_a_fresh_server_shows_its_page(
    page: Page, streamlit_server: StartServer, root: Path, title: str
) -> None:
    fresh = streamlit_server(APP, app.folders(root))
    open_app(page, f"{fresh}/{title.lower()}")
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=app.SECONDS)
    settle(page)
    expect(page.get_by_text("Page not found")).to_have_count(0)
    expect(page.locator("[data-testid=stSidebar]").get_by_text("0 removed")).to_be_visible()
    page.context.close()
    assert streamlit_server.stop(fresh)


def test_long_work_shows_progress_can_be_stopped_and_started_again(
    page: Page, streamlit_server: StartServer, root: Path
) -> None:
    server = streamlit_server(APP, app.folders(root))
    open_prune(page, server)
    page.locator(".st-key-kinds-Q-K-V-O-IN-OUT").wait_for(state="attached")
    page.locator(".st-key-task input").click()
    page.get_by_role("option", name="int-sum", exact=True).click()
    bar = page.locator("[data-testid=stProgress]").filter(has_text="Scoring Q, K on int-sum")
    expect(bar).to_be_visible(timeout=app.SECONDS)
    expect(bar).to_contain_text("running")
    expect(page.locator(".st-key-metric-predicted")).to_contain_text("…")
    page.locator("[class*=st-key-stop-scores] button").click()
    stopped = page.get_by_text("Scoring Q, K on int-sum: stopped.")
    expect(stopped).to_be_visible(timeout=app.SECONDS)
    page.locator("[class*=st-key-again-scores] button").click()
    expect(bar).to_be_visible(timeout=app.SECONDS)
    page.context.close()
    assert streamlit_server.stop(server, timeout=30)  # also while something runs


_CLIPPED = """() => {
    const cut = [];
    for (const one of document.querySelectorAll(
        '[data-testid=stMetricLabel] *, [data-testid=stMetricValue], [data-testid=stMetricValue] *, '
        + '[data-testid=stMetricDelta] *, button p, [data-testid=stCaptionContainer] p, h1, h3, label p')) {
        if (one.offsetParent === null || getComputedStyle(one).display === 'inline') continue;
        const [need, have] = [one.scrollWidth, one.clientWidth];
        if (need > have + 1) cut.push(`${one.textContent} (${need} in ${have})`);
    }
    return cut;
}"""
_WIDE = """() => ['html', '[data-testid=stApp]', '[data-testid=stMain]', '[data-testid=stSidebarContent]']
    .map((name) => [name, document.querySelector(name)])
    .filter(([, one]) => one && one.scrollWidth > one.clientWidth)
    .map(([name, one]) => `${name}: ${one.scrollWidth} in ${one.clientWidth}`)"""


def test_nothing_is_clipped_and_nothing_scrolls_sideways(page: Page, url: str) -> None:
    open_prune(page, url)
    for count in (0, 4):
        if count:
            go(page, "Prune")
            press(page, "remove-lowest")
            removed(page, count)
            press(page, "controls")
            settle(page)
        for title in PAGES:
            go(page, title)
            for size, scheme in product(SIZES, SCHEMES):
                look(page, size, scheme)
                where = f"{title}, {size}, {scheme}"
                assert page.evaluate(_WIDE) == [], where
                assert page.evaluate(_CLIPPED) == [], where
                expect(page.locator("[data-testid=stException]")).to_have_count(0)
            look(page, SIZES[0], SCHEMES[0])
            if count:
                popovers_fit(page, title)
    go(page, "Prune")
    assert figure(page, "control").endswith("%")


def look(page: Page, size: tuple[int, int], scheme: Literal["light", "dark"]) -> None:
    """Show the page in a size and a theme, and wait until it is drawn so."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    expect(page.locator("[data-testid=stApp]")).to_have_css("color-scheme", scheme)
    page.wait_for_timeout(200)
    wait_until_idle(page)


def popovers_fit(page: Page, where: str) -> None:
    """Open every popover of the page: all of it is within the window, and nothing in it is clipped."""
    buttons = page.locator("[data-testid=stMain] [data-testid=stPopover] button:visible:enabled")
    for button in buttons.all():
        name = f"{where}: {button.inner_text()}"
        button.click()
        body = page.locator("[data-testid=stPopoverBody]")
        expect(body).to_be_visible()
        settle(page)
        box, size = body.bounding_box(), page.viewport_size
        assert box is not None
        assert size is not None
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= size["width"], name
        assert page.evaluate(_CLIPPED) == [], name
        page.keyboard.press("Escape")
        expect(body).to_have_count(0)


def test_metrics_plot_and_table_stay_where_they_are(page: Page, url: str) -> None:
    open_prune(page, url)

    def place() -> list[float]:
        boxes = [page.locator(f".st-key-{key}").first.bounding_box() for key in ("metric-loss", "k", "remove-lowest")]
        boxes.append(chart.graph(page, CHART).bounding_box())
        assert all(boxes)
        return [round(box["y"]) for box in boxes if box]

    before = place()
    press(page, "remove-lowest")
    removed(page, 4)
    assert place() == before
    press(page, "controls")
    settle(page)
    assert place() == before
    press(page, "restore-all")
    removed(page, 0)
    assert place() == before
