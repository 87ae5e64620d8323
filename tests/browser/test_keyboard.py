"""The keyboard in a real browser: matrices, values, undo; and text fields that keep their own keys."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import app, chart
from tests.browser.app import APP, CHART, open_prune, press, settle
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import StartServer, open_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    return streamlit_server(APP, app.folders(tmp_path_factory.mktemp("keyboard")))


def matrices(page: Page, key: str) -> list[str]:
    return list(chart.displayed_state(page, key))


def test_next_and_previous_matrix_on_spectra_but_not_while_typing(page: Page, url: str) -> None:
    open_app(page, f"{url}/spectra?matrix=L0.K.H1")
    expect(page.get_by_role("heading", name="Spectra", exact=True)).to_be_visible(timeout=app.SECONDS)
    settle(page)
    chart.settle(page, "spectra-chart")
    host = page.get_by_test_id("spectrum-chart")
    for key, expected in (("n", "L0.K.H2"), ("n", "L0.K.H3"), ("p", "L0.K.H2")):
        page.keyboard.press(key)
        shown = re.compile(rf" {re.escape(expected)}\.")
        expect(host).to_have_attribute("aria-label", shown, timeout=app.SECONDS)
    settle(page)
    box = page.locator(".st-key-against input")
    box.click()
    box.press_sequentially("npnp")
    page.wait_for_timeout(1500)
    expect(box).to_have_value("npnp")
    page.keyboard.press("Escape")
    settle(page)
    assert matrices(page, "spectra-chart") == ["L0.K.H2"]


def test_values_are_removed_and_restored_by_keyboard_alone(page: Page, url: str) -> None:
    open_prune(page, url)
    (matrix,) = matrices(page, CHART)
    host = page.get_by_test_id("spectrum-chart")
    page.locator(".st-key-by_block input").focus()
    while not host.evaluate("(one) => one === document.activeElement"):
        page.keyboard.press("Tab")
    tip, live = page.locator(".spectrum-chart__tip"), page.locator(".spectrum-chart__live")
    expect(tip).to_contain_text(f"{matrix}, index 0")  # the cursor is seen as soon as the plot has the focus
    page.keyboard.press("ArrowRight")
    expect(live).to_contain_text(f"{matrix}, index 1")
    expect(live).to_contain_text("kept")
    page.keyboard.press("Enter")
    expect(live).to_contain_text("removed")  # said at once
    removed(page, 1)
    assert chart.displayed_state(page, CHART)[matrix]["removed"] == [1]
    for key, index in (("PageDown", 11), ("PageUp", 1), ("End", None), ("Home", 0), ("ArrowRight", 1)):
        page.keyboard.press(key)
        if index is not None:
            expect(tip).to_contain_text(f"index {index}")
    page.keyboard.press("Space")
    removed(page, 0)
    expect(live).to_contain_text("kept")
    page.keyboard.press("n")  # the plot leaves other keys alone
    expect(host).not_to_have_attribute("aria-label", re.compile(f" {matrix}\\."), timeout=app.SECONDS)
    settle(page)
    assert matrices(page, CHART) != [matrix]


def test_undo_is_the_masks_on_the_page_and_the_texts_in_a_field(page: Page, url: str) -> None:
    open_prune(page, url)
    press(page, "remove-lowest")
    removed(page, 4)
    app.go(page, "Activations")
    field = page.get_by_label("Prompt: the example's, or write your own")
    field.click()
    before = field.input_value()
    field.press_sequentially(" 7")
    page.keyboard.press("Control+z")
    page.wait_for_timeout(1500)
    assert field.input_value() != f"{before} 7"  # the browser's own undo
    removed(page, 4)
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="Activations", exact=True).click()
    page.keyboard.press("Control+z")
    removed(page, 0)
    page.keyboard.press("Control+y")
    removed(page, 4)


def test_the_keys_are_listed_in_the_sidebar(page: Page, url: str) -> None:
    open_prune(page, url)
    page.locator(".st-key-keys button").first.click()
    for words in ("Ctrl + Z", "previous, next matrix", "Enter, Space"):
        expect(page.get_by_role("cell", name=words)).to_be_visible()
