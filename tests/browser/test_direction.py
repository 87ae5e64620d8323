"""The card of a direction in a real browser: from the ranking to the card, along it, and into the mask."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from explorer.masks.mask import load_mask
from tests.browser import app, chart
from tests.browser.app import APP, press, settle
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import StartServer, open_app
from tests.browser.test_scores import click_place, select_row

pytestmark = pytest.mark.browser


def shown(page: Page) -> str:
    """The direction of the address."""
    return parse_qs(urlsplit(page.url).query)["direction"][0]


def heading(page: Page) -> None:
    expect(page.get_by_role("heading", name="Direction", exact=True)).to_be_visible(timeout=app.SECONDS)
    settle(page)


def test_from_the_ranking_to_a_card_along_it_and_into_the_mask(
    page: Page, streamlit_server: StartServer, tmp_path: Path
) -> None:
    url = streamlit_server(APP, app.folders(tmp_path))
    open_app(page, f"{url}/scores")
    settle(page)
    select_row(page, "ranking", 0)
    settle(page)
    press(page, "card-selected")
    heading(page)
    assert re.fullmatch(r"L0\.[QK]\.H3:0", shown(page))
    matrix = shown(page).partition(":")[0]

    marked = page.locator("table[aria-label='Largest x · u'] tbody tr")
    expect(marked).to_have_count(8, timeout=app.SECONDS)
    first = marked.first.locator("span[title]").filter(has_text=re.compile(r"^\d+|x|=|<bos>$"))
    expect(first.first).to_have_css("background-color", re.compile(r"rgba\(\d+, \d+, \d+, 0?\.\d+\)"))
    framed = marked.first.locator("span[style*=outline]")
    expect(framed).to_have_count(1)
    value = float(marked.first.locator("td").first.inner_text())
    assert float(framed.get_attribute("title") or "nan") == pytest.approx(value, rel=0.01)

    accuracy = page.get_by_test_id("stMetric").filter(has_text="Accuracy without it")
    expect(accuracy).to_contain_text("100.0 %")
    page.get_by_label("Label", exact=True).fill("which table")
    page.keyboard.press("Enter")
    settle(page)
    press(page, "switch-direction")
    removed(page, 1)
    (label,) = load_mask(app.download(page, tmp_path)).labels
    assert (label.place, label.label) == ((matrix, 0), "which table")
    expect(page.locator(".st-key-switch-direction")).to_contain_text("Restore this value")

    name = page.locator("[class*=st-key-place-]").first.get_attribute("class") or ""
    key = next(one.removeprefix("st-key-") for one in name.split() if one.startswith("st-key-place-"))
    click_place(page, key, f"{matrix}:4")
    expect(page.locator(".st-key-direction-index input")).to_have_value("4", timeout=app.SECONDS)
    settle(page)
    assert shown(page) == f"{matrix}:4"
    expect(page.locator(".st-key-switch-direction")).to_contain_text("Remove this value")

    page.reload()
    heading(page)
    assert shown(page) == f"{matrix}:4"
    removed(page, 1)
    press(page, "undo")
    removed(page, 0)


def test_a_click_with_shift_opens_the_card_of_a_point_and_removes_nothing(
    page: Page, streamlit_server: StartServer, tmp_path: Path
) -> None:
    open_app(page, f"{streamlit_server(APP, app.folders(tmp_path))}/prune?plot=L0.K.H3")
    settle(page)
    page.mouse.move(*chart.pixel(page, "prune-chart", "L0.K.H3", 6))
    expect(page.locator(".spectrum-chart__tip")).to_contain_text("Shift-click for its card")
    page.keyboard.down("Shift")
    chart.click_point(page, "prune-chart", "L0.K.H3", 6)
    page.keyboard.up("Shift")
    heading(page)
    assert shown(page) == "L0.K.H3:6"
    removed(page, 0)
