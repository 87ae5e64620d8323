"""The tour, the map and the Scores page in a real browser."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.core.keys import Kind, MatrixKey
from explorer.models.matrices import matrices, shape
from tests.browser import app, chart
from tests.browser.app import APP, go, press, settle
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import StartServer, open_app
from tests.browser.subjects import Subject

pytestmark = pytest.mark.browser

MAP = "score-map"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scores")


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(APP, app.folders(root))


def percent(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"([\d.]+)[ \u00a0]%", text)]


def plot(page: Page, key: str) -> Locator:
    """The plotly graph of a chart."""
    return page.locator(f".st-key-{key} .js-plotly-plot")


def place(page: Page, key: str, name: str) -> tuple[float, float]:
    """Pixel of a plot's point with an id."""
    plot(page, key).scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    x, y = plot(page, key).evaluate(
        """(gd, name) => {
            const trace = gd._fullData.find((one) => Array.from(one.ids ?? []).includes(name));
            const index = Array.from(trace.ids).indexOf(name);
            const { xaxis, yaxis } = gd._fullLayout;
            const box = gd.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(trace.x[index]),
                    box.top + yaxis._offset + yaxis.d2p(trace.y[index])];
        }""",
        name,
    )
    return float(x), float(y)


def click_place(page: Page, key: str, name: str) -> None:
    x, y = place(page, key, name)
    page.mouse.move(x, y)
    page.wait_for_timeout(300)  # plotly's hover throttle
    page.mouse.down()
    page.mouse.up()


def table(page: Page, name: str) -> Locator:
    return page.locator(f"[class*=st-key-{name}-] [data-testid=stDataFrame]").first


def select_row(page: Page, name: str, row: int) -> None:
    """Tick a row of a table: the grid is a canvas with rows of 35 pixels below a header."""
    grid = table(page, name)
    grid.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    grid.click(position={"x": 20, "y": 35 + 35 * row + 17})


def test_three_clicks_bring_the_hidden_ability_back_in_under_a_minute(page: Page, url: str) -> None:
    open_app(page, url)
    settle(page)
    start = time.monotonic()
    tour = page.locator(".st-key-tour")
    expect(tour).to_contain_text(re.compile(r"Unpruned, the model answers \d+\.\d % of \d+"))
    press(page, "tour-1")
    expect(tour).to_contain_text(re.compile(r"L0\.[QK]\.H\d, value \d+: -\d"), timeout=app.SECONDS)
    press(page, "tour-2")
    removed(page, 4)
    expect(tour).to_contain_text("accuracy went from", timeout=app.SECONDS)
    before, after = percent(tour.inner_text().split("accuracy went from")[1])[:2]
    assert before < 10
    assert after > 70
    press(page, "tour-3")
    expect(tour).to_contain_text(re.compile(r"beats \d+ of 20"), timeout=app.SECONDS)
    settle(page)
    assert time.monotonic() - start < 60
    assert percent(tour.inner_text().split("reach")[1])[0] < 10
    expect(tour.locator("button")).to_have_count(0)  # nothing is left to click


def test_a_click_on_the_map_opens_the_matrix_and_coming_back_does_not(page: Page, url: str) -> None:
    open_app(page, url)
    settle(page)
    for matrix in ("L2.K.H1", "L1.Q.H0"):
        click_place(page, MAP, matrix)
        expect(page.get_by_role("heading", name="Spectra", exact=True)).to_be_visible(timeout=app.SECONDS)
        settle(page)
        assert list(chart.displayed_state(page, "spectra-chart")) == [matrix]
        go(page, "Overview")
        page.wait_for_timeout(500)
        expect(page.get_by_role("heading", name="Eigenpruning", exact=True)).to_be_visible()


def test_filter_measure_compare_and_remove_the_worst(page: Page, streamlit_server: StartServer, tmp_path: Path) -> None:
    url = streamlit_server(APP, app.folders(tmp_path))  # where nothing has been measured yet
    open_app(page, f"{url}/scores")
    expect(page.get_by_role("heading", name="Scores", exact=True)).to_be_visible(timeout=app.SECONDS)
    settle(page)
    state = page.locator(".st-key-mask-line")
    unpruned = percent(state.inner_text())[0]

    page.locator(".st-key-score-layers input").click()
    page.get_by_role("option", name="0", exact=True).click()
    page.keyboard.press("Escape")
    settle(page)
    expect(page.get_by_text(re.compile(r"^256 of 1,024 values"))).to_be_visible(timeout=app.SECONDS)
    expect(page.get_by_text("None of these values has been measured yet")).to_be_visible(timeout=app.SECONDS)

    press(page, "measure-these")
    expect(plot(page, "pairs")).to_be_visible(timeout=app.SECONDS)
    settle(page)
    names = plot(page, "pairs").evaluate("(gd) => gd._fullData.flatMap((trace) => Array.from(trace.ids ?? []))")
    assert len(names) == 8
    assert {MatrixKey.parse(name.split()[0]).layer for name in names} == {0}

    actions = page.locator(".st-key-score-actions")
    for name in (names[0], names[-1]):
        click_place(page, "pairs", name)
        expect(actions).to_contain_text("1 selected")
        settle(page)
    click_place(page, "pairs", names[-1])  # once more: no longer
    expect(actions).to_contain_text("Select rows or points")
    settle(page)

    for row in (0, 1):
        select_row(page, "offenders", row)
        settle(page)
    expect(actions).to_contain_text("2 selected")
    press(page, "remove-selected")
    removed(page, 2)
    expect(state).to_contain_text("2 removed", timeout=app.SECONDS)
    expect(state).to_contain_text("unpruned", timeout=app.SECONDS)
    now, before = percent(state.inner_text())
    assert before == unpruned
    assert now > unpruned + 50
    expect(actions).to_contain_text("Restore 2")  # still selected

    page.locator(".st-key-score-at-mask label").first.click()
    settle(page)
    expect(page.locator("[data-testid=stException]")).to_have_count(0)
    expect(page.locator("[data-testid=stAlert]").filter(has_text="failed")).to_have_count(0)
    press(page, "undo")
    removed(page, 0)

    select_row(page, "ranking", 0)
    settle(page)
    press(page, "open-selected")
    expect(page.get_by_role("heading", name="Spectra", exact=True)).to_be_visible(timeout=app.SECONDS)
    settle(page)
    assert next(iter(chart.displayed_state(page, "spectra-chart"))).startswith("L0.")


@pytest.mark.journey
def test_the_ranking_downloads_as_csv(page: Page, url: str, subject: Subject, tmp_path: Path) -> None:
    open_app(page, f"{url}/scores?{subject.query}")
    settle(page)
    with page.expect_download() as found:
        press(page, "scores-csv")
    path = tmp_path / found.value.suggested_filename
    found.value.save_as(path)
    header, *lines = path.read_text().splitlines()
    assert header.split(",")[:5] == ["matrix", "kind", "layer", "head", "index"]
    view = subject.loaded().view()
    scored = matrices(view, (Kind.Q, Kind.K), per_head=True)
    assert len(lines) == sum(min(shape(view, key)) for key in scored)
