"""Every plot's menu in a real browser: PNG and SVG of what is on the screen, CSV of its data."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import app, chart
from tests.browser.app import APP, go, open_prune, press, settle
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import StartServer, open_app

pytestmark = pytest.mark.browser

PLOTS = {
    "Overview": ("score-map",),
    "Spectra": ("energy",),
    "Activations": ("attention-unpruned", "attention-difference", "residual", "lens", "wrote-figure"),
}


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    return streamlit_server(APP, app.folders(tmp_path_factory.mktemp("figures")))


def offered(page: Page, key: str, format: str) -> Locator:
    """The button of a format, in a plot's menu, which it opens."""
    page.locator(f".st-key-files-{key} button").first.click()
    return page.get_by_test_id("stPopoverBody").get_by_role("button", name=f"Download as {format}")


def take(page: Page, key: str, format: str) -> Path:
    """Choose a format from a plot's menu."""
    button = offered(page, key, format)
    with page.expect_download(timeout=app.SECONDS) as found:
        button.click()
    path = Path(found.value.path())
    assert found.value.suggested_filename == f"{key}.{format.lower()}"
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("stPopoverBody")).to_have_count(0)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_plot_is_downloaded_as_png_svg_and_csv(page: Page, url: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    open_app(page, f"{url}/spectra?matrix=L0.K.H1_L1.OUT")
    expect(page.get_by_role("heading", name="Spectra", exact=True)).to_be_visible(timeout=app.SECONDS)
    settle(page)
    drawn = page.locator(".st-key-figure-energy .js-plotly-plot")
    assert take(page, "energy", "PNG").read_bytes().startswith(b"\x89PNG")
    picture = take(page, "energy", "SVG").read_text()
    assert picture.lstrip().startswith("<svg")
    assert "Cumulative energy" in picture
    background = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert background in picture  # in the page's own theme
    rows = list(csv.reader(take(page, "energy", "CSV").read_text().splitlines()))
    curves = drawn.evaluate(
        "(gd) => gd._fullData.filter((one) => one.mode === 'lines').map((one) => [one.name, [...one.y]])"
    )
    for name, values in curves:
        found = [float(row[2]) for row in rows if row[0] == name and not row[3]]
        assert found == pytest.approx(values)
    assert [name for name, _ in curves] == ["L0.K.H1", "L1.OUT"]


def test_the_data_are_in_the_menu_whatever_the_server_does(page: Page, url: str) -> None:
    open_app(page, f"{url}/spectra?matrix=L0.Q.H0")
    settle(page)
    button = offered(page, "energy", "CSV")
    expect(button).to_be_visible()
    settle(page)
    page.context.set_offline(True)
    with page.expect_download() as found:
        button.click()
    assert Path(found.value.path()).read_text().startswith("series,")


def test_every_plot_has_its_menu_clear_of_plotlys_bar(page: Page, url: str) -> None:
    open_prune(page, url)
    press(page, "remove-lowest")
    removed(page, 4)
    for title, keys in PLOTS.items():
        go(page, title)
        drawn = page.locator(".js-plotly-plot:not(.spectrum-chart__plot)")
        expect(page.locator("[class*=st-key-files-]")).to_have_count(drawn.count())
        for key in keys:
            plot, menu = (page.locator(f".st-key-{name}-{key}") for name in ("figure", "files"))
            plot.scroll_into_view_if_needed()
            plot.hover()
            around, inner = plot.bounding_box(), menu.locator("button").first.bounding_box()
            assert around is not None
            assert inner is not None
            right = inner["x"] + inner["width"]
            assert around["x"] <= inner["x"] < right <= around["x"] + around["width"] + 1
            assert around["y"] <= inner["y"] <= around["y"] + around["height"] / 4
            bar = plot.locator(".modebar")
            if bar.count() and (where := bar.first.bounding_box()):
                assert where["x"] + where["width"] <= inner["x"] + 1, key


def test_the_clickable_plots_bar_has_csv_too(page: Page, url: str) -> None:
    open_prune(page, url)
    (matrix,) = chart.displayed_state(page, app.CHART)
    chart.click_point(page, app.CHART, matrix, 3)
    removed(page, 1)
    with page.expect_download() as found:
        chart.set_tool(page, app.CHART, "Download as CSV")
    assert found.value.suggested_filename == f"spectrum-{matrix}.csv"
    rows = list(csv.DictReader(Path(found.value.path()).read_text().splitlines()))
    s, score = chart.evaluate(
        page,
        app.CHART,
        "const one = gd._fullData.find((trace) => trace.meta?.matrix); return [[...one.y], [...one.marker.color]];",
    )
    assert [float(row["singular value"]) for row in rows] == pytest.approx(s)
    assert [float(row["score (nats)"]) for row in rows] == pytest.approx(score)
    assert [int(row["index"]) for row in rows if row["state"] == "removed"] == [3]
    assert {row["matrix"] for row in rows} == {matrix}
