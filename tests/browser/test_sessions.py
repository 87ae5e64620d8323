"""Sessions on one server, and over its restart: nobody waits for another's work, and nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.masks.mask import load_mask
from explorer.models import Model
from explorer.spectra.cache import SvdCache
from tests.browser import app, chart
from tests.browser.app import APP, CHART, figures, go, open_prune, press, settle, shown
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import NewPage, StartServer, open_app
from tests.browser.subjects import Subject

pytestmark = pytest.mark.browser

MANY = 500  # values to measure one by one: some thousand times what a click takes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "server"


@pytest.fixture
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(APP, app.folders(root))


def one_by_one(page: Page) -> None:
    """Have a plot open in which a click is one value."""
    page.locator(".st-key-by_block label").click()
    settle(page)


def start_long_job(page: Page, url: str) -> Locator:
    """Measure many values exactly; gives the bar that says so."""
    open_app(page, f"{url}/scores?task=int-sum")
    settle(page)
    box = page.locator("[class*=st-key-measure-count] input")
    box.fill(str(MANY))
    box.press("Enter")
    expect(page.locator(".st-key-measure-these")).to_contain_text(f"Measure these {MANY}")
    press(page, "measure-these")
    bar = page.locator("[data-testid=stProgress]").filter(has_text=f"Measuring {MANY} values one by one")
    expect(bar).to_contain_text("running", timeout=app.SECONDS)
    return bar


def done(bar: Locator) -> float:
    """How much of a job is done, in percent."""
    return float(bar.locator("[role=progressbar]").get_attribute("aria-valuenow") or "nan")


def test_a_long_job_holds_up_no_click_of_others_and_outlasts_its_page(
    new_page: NewPage, url: str, tmp_path: Path, bundled: Model, svds: SvdCache
) -> None:
    quick, busy = new_page(), new_page()
    open_prune(quick, url)
    one_by_one(quick)
    matrix = next(iter(chart.displayed_state(quick, CHART)))
    bar = start_long_job(busy, url)
    for index in (3, 5):
        chart.click_point(quick, CHART, matrix, index)
        removed(quick, 1 if index == 3 else 2)
    expect(bar).to_contain_text("running")  # while the other had its figures twice
    assert figures(quick) == shown(app.measured(bundled, load_mask(app.download(quick, tmp_path)), svds))

    share = done(bar)
    go(busy, "Overview")
    busy.locator("[data-testid=stSidebarNav]").get_by_role("link", name="Scores", exact=True).click()
    expect(bar).to_contain_text("running", timeout=app.SECONDS)
    assert done(bar) >= share  # it went on meanwhile
    busy.locator("[class*=st-key-stop-effects] button").click()
    expect(busy.get_by_text(f"Measuring {MANY} values one by one: stopped.")).to_be_visible(timeout=app.SECONDS)


def test_two_sessions_that_click_in_turn_get_what_each_gets_alone(
    new_page: NewPage, url: str, subject: Subject, tmp_path: Path, svds: SvdCache
) -> None:
    pages = [new_page(), new_page()]
    for page in pages:
        open_prune(page, url, subject.query)
        one_by_one(page)
    matrix = next(iter(chart.displayed_state(pages[0], CHART)))
    clicks = ((1, 4, 6), (0, 4, 2))
    for pair in zip(*clicks, strict=True):
        for page, index in zip(pages, pair, strict=True):  # no one waits for figures
            chart.click_point(page, CHART, matrix, index)
    for page, own in zip(pages, clicks, strict=True):
        removed(page, len(own))
        folder = tmp_path / str(own[0])
        folder.mkdir()
        mask = load_mask(app.download(page, folder))
        assert sorted(one.index for one in mask.removed) == sorted(own)
        assert figures(page) == shown(app.measured(subject.loaded(), mask, svds, subject.read()))


def test_a_page_outlasts_a_restart_of_the_server(page: Page, streamlit_server: StartServer, tmp_path: Path) -> None:
    own = app.folders(tmp_path)
    first = streamlit_server(APP, own)
    open_prune(page, first)
    press(page, "remove-lowest")
    removed(page, 4)
    before, address = figures(page), page.url
    assert streamlit_server.stop(first)
    root = page.locator("[data-testid=stApp]")
    expect(root).not_to_have_attribute("data-test-connection-state", "CONNECTED", timeout=app.SECONDS)
    assert streamlit_server(APP, own, port=urlsplit(first).port) == first
    expect(root).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=2 * app.SECONDS)
    page.wait_for_timeout(1000)
    settle(page)
    press(page, "undo")  # the first thing that the user does
    removed(page, 0)
    press(page, "redo")
    removed(page, 4)
    assert figures(page) == before
    assert page.url == address
    one_by_one(page)
    press(page, "undo")
    removed(page, 0)
    chart.click_point(page, CHART, next(iter(chart.displayed_state(page, CHART))), 2)
    removed(page, 1)
    expect(page.locator(".st-key-metric-accuracy")).to_contain_text(re.compile(r"\d %"))
