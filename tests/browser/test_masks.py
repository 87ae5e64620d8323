"""Masks in a real browser: links, Back, history and forks by hand, and the library over a restart."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from explorer.masks.library import Library
from explorer.masks.links import inline_mask
from explorer.masks.mask import load_mask
from explorer.models import Model
from tests.browser import app, chart
from tests.browser.app import APP, CHART, download, figures, go, open_prune, press, settle
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import NewPage, StartServer, open_app
from tests.browser.subjects import Subject

pytestmark = pytest.mark.browser
HAND_MS = 150  # from one press to the next


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("masks")


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(APP, app.folders(root))


def remove_lowest(page: Page, count: int) -> None:
    box = page.locator(".st-key-k input")
    box.fill(str(count))
    box.press("Enter")
    expect(page.locator(".st-key-remove-lowest button:visible").first).to_have_text(f"Remove {count} lowest")
    press(page, "remove-lowest")
    removed(page, count)


def open_popover(page: Page, key: str) -> None:
    page.locator(f".st-key-{key} button:visible").first.click()
    page.locator("[data-testid=stPopoverBody]").wait_for()
    settle(page)


def close_popover(page: Page) -> None:
    page.keyboard.press("Escape")
    expect(page.locator("[data-testid=stPopoverBody]")).to_have_count(0)


def select_row(page: Page, row: int) -> None:
    """Click the checkbox of a row of the library's table."""
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    assert box
    height = 31.25
    page.mouse.click(box["x"] + 18, box["y"] + height * (row + 1.5))
    settle(page)


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", name=text, exact=True)).to_be_visible(timeout=app.SECONDS)


def test_back_and_forward_go_through_masks_and_pages(page: Page, url: str, subject: Subject) -> None:
    open_prune(page, url, subject.query)
    start = figures(page)
    remove_lowest(page, 2)
    two = figures(page)
    remove_lowest(page, 5)
    for title in ("Spectra", "Prune"):
        go(page, title)
    page.go_back()
    heading(page, "Spectra")
    settle(page)
    page.go_back()
    heading(page, "Prune")
    removed(page, 5)
    page.go_back()
    removed(page, 2)
    assert figures(page) == two
    page.go_back()
    removed(page, 0)
    assert figures(page) == start
    page.go_forward()
    removed(page, 2)
    assert figures(page) == two
    press(page, "redo")  # going back is a jump in the history, so nothing was lost
    removed(page, 5)


def test_back_while_something_runs_goes_back_one_view_in_one_press(page: Page, url: str) -> None:
    open_prune(page, url)
    remove_lowest(page, 3)
    for title, heading_text in (("Spectra", "Spectra"), ("Scores", "Scores")):
        page.locator("[data-testid=stSidebarNav]").get_by_role("link", name=title, exact=True).click()
        heading(page, heading_text)  # the page has only begun
    page.locator(".st-key-every-kind label").click()  # all kinds are scored from now on
    page.wait_for_timeout(HAND_MS)  # the server hears of a click some frames after it
    page.go_back()
    heading(page, "Spectra")
    page.go_back()
    heading(page, "Prune")
    removed(page, 3)
    page.go_back()
    removed(page, 0)
    page.go_forward()
    removed(page, 3)


def test_a_link_carries_shots_template_and_how_it_is_scored(new_page: NewPage, url: str) -> None:
    settings = "shots=3&template=%7Bi%7D%20*%20%7Bj%7D%20%3D&kinds=Q_V&granularity=stacked&eval_limit=32&score_limit=64"
    first = new_page()
    open_app(first, f"{url}/prune?{settings}")
    heading(first, "Prune")
    settle(first)
    chart.graph(first, CHART).wait_for()
    remove_lowest(first, 3)
    open_popover(first, "share")
    link = first.locator("[data-testid=stPopoverBody] [data-testid=stCode]").first.inner_text().strip()
    close_popover(first)
    asked = parse_qs(urlsplit(link).query)
    assert (asked["shots"], asked["template"], asked["kinds"]) == (["3"], ["{i} * {j} ="], ["Q_V"])

    second = new_page()
    open_app(second, link)
    heading(second, "Prune")
    removed(second, 3)
    assert figures(second) == figures(first)
    assert app.figure(second, "predicted") == app.figure(first, "predicted")


def test_fast_clicks_after_a_change_are_not_taken_for_going_back(page: Page, url: str, subject: Subject) -> None:
    open_prune(page, url, subject.query)
    page.locator(".st-key-by_block label").click()
    settle(page)
    matrix = next(iter(chart.displayed_state(page, CHART)))
    for index in range(5):
        chart.click_point(page, CHART, matrix, index)
    settle(page)
    for _ in range(3):
        press(page, "undo")
    settle(page)
    removed(page, 2)
    press(page, "redo")
    removed(page, 3)
    (link,) = parse_qs(urlsplit(page.url).query)["mask"]
    assert link.endswith(f"~{matrix}_0_1_2")


def test_presses_of_undo_and_redo_are_counted_however_fast_they_are(page: Page, url: str) -> None:
    open_prune(page, url)
    matrix = next(iter(chart.displayed_state(page, CHART)))
    for index in range(8):
        chart.click_point(page, CHART, matrix, index)
    settle(page)
    removed(page, 8)
    fast = "(key, times) => { for (let i = 0; i < times; i++) document.querySelector(`.st-key-${key} button`).click() }"
    page.evaluate(f"() => ({fast})('undo', 6)")
    removed(page, 2)
    for _ in range(3):
        page.keyboard.press("Control+y")
    page.evaluate(f"() => ({fast})('undo', 1)")
    removed(page, 4)
    page.evaluate(f"() => ({fast})('undo', 20)")  # more than there is
    removed(page, 0)
    press(page, "redo")
    removed(page, 1)


def test_a_shared_link_opens_the_same_view_for_somebody_else(new_page: NewPage, url: str, tmp_path: Path) -> None:
    page = new_page()
    open_app(page, f"{url}/prune?task=int-sum&split=test")
    heading(page, "Prune")
    settle(page)
    chart.graph(page, CHART).wait_for()
    remove_lowest(page, 3)
    here = figures(page)
    open_popover(page, "share")
    link = page.locator("[data-testid=stPopoverBody] [data-testid=stCode]").first.inner_text().strip()
    assert "session=" not in link
    for part in ("model=bundled", "task=int-sum", "split=test"):
        assert part in link
    close_popover(page)
    mine = load_mask(download(page, tmp_path))

    other = new_page()
    open_app(other, link)
    heading(other, "Prune")
    removed(other, 3)
    assert figures(other) == here
    (text,) = parse_qs(urlsplit(other.url).query)["mask"]
    assert inline_mask(text, mine.model).digest == mine.digest
    press(other, "undo")
    removed(other, 0)
    assert page.locator(".st-key-mask-state").inner_text().startswith("3 removed")  # sessions keep apart


def test_a_link_for_another_model_is_a_sentence(page: Page, url: str, bundled: Model) -> None:
    own = bundled.digest.removeprefix("sha256:")[:12]
    for text, reason in (
        (f"id~{'0' * 12}~{'0' * 12}", "made for other weights"),
        (f"id~{own}~{'0' * 12}", "is not in this workspace"),
    ):
        open_app(page, f"{url}/prune?mask={text}")
        alert = page.locator("[data-testid=stSidebar] [data-testid=stAlert]")
        expect(alert).to_contain_text(reason, timeout=app.SECONDS)
        removed(page, 0)


def test_history_and_forks_by_hand(page: Page, url: str, subject: Subject) -> None:
    open_prune(page, url, subject.query)
    for count in (1, 4):
        remove_lowest(page, count)
    open_popover(page, "history-popover")
    body = page.locator("[data-testid=stPopoverBody]")
    expect(body).to_contain_text("2. lowest 4 (4 removed)")
    body.get_by_text("1. lowest 1 (1 removed)").click()
    removed(page, 1)
    close_popover(page)
    press(page, "redo")
    removed(page, 4)
    go(page, "Spectra")  # the choice made in the popover is not made again
    removed(page, 4)
    go(page, "Prune")
    press(page, "undo")
    removed(page, 1)
    open_popover(page, "fork-popover")
    body.locator("input").fill("try this")
    body.locator("input").press("Enter")
    settle(page)
    body.get_by_role("button", name="Fork here").click()
    settle(page)
    close_popover(page)
    remove_lowest(page, 6)
    page.locator(".st-key-fork input").click()
    page.get_by_role("option", name="main", exact=True).click()
    removed(page, 1)
    press(page, "redo")
    removed(page, 4)
    page.reload()
    removed(page, 4)
    page.locator(".st-key-fork input").click()
    page.get_by_role("option", name="try this", exact=True).click()
    removed(page, 6)
    press(page, "undo")
    removed(page, 1)


@pytest.mark.journey
def test_the_library_over_a_restart(new_page: NewPage, streamlit_server: StartServer, tmp_path: Path) -> None:
    first = streamlit_server(APP, app.folders(tmp_path))
    page = new_page()
    open_prune(page, first)
    for count in (4, 9):
        remove_lowest(page, count)
        go(page, "Masks")
        press(page, "save")
        expect(page.get_by_text("The current mask is in the library as")).to_be_visible(timeout=app.SECONDS)
        go(page, "Prune")
    page.context.close()
    assert streamlit_server.stop(first)

    second = streamlit_server(APP, app.folders(tmp_path))
    page = new_page()
    open_app(page, f"{second}/masks")
    heading(page, "Masks")
    settle(page)
    select_row(page, 1)
    press(page, "entry-open")
    removed(page, 4)
    select_row(page, 0)
    expect(page.get_by_text("4 values in both, 5 only in the first, 0 only in the second")).to_be_visible()
    expect(page.get_by_text("McNemar p =")).to_be_visible(timeout=app.SECONDS)
    press(page, "delete-many")
    expect(page.get_by_text("The library holds no masks of this model yet")).to_be_visible(timeout=app.SECONDS)
    press(page, "undo-delete")
    expect(page.locator("[data-testid=stDataFrame]").first).to_be_visible(timeout=app.SECONDS)
    found = Library(tmp_path / "workspace" / "masks").list().entries
    assert [len(entry.mask) for entry in found] == [9, 4]
    go(page, "Prune")
    undone = figures(page)
    press(page, "undo")
    removed(page, 0)
    assert figures(page) != undone
