"""A search in a real browser: start it, watch its curve, take the best mask to the workbench."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.masks.mask import load_mask
from explorer.search.report_file import load_report
from tests.browser import app
from tests.browser.app import APP, cli_eval, download, figures, go, press, settle, shown
from tests.browser.conftest import StartServer, open_app
from tests.browser.subjects import Subject

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(APP, app.folders(root))


def open_search(page: Page, url: str, query: str = "") -> None:
    """By way of the Overview, whose map has the browser load what draws plots."""
    open_app(page, f"{url}/?{query}")
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=app.SECONDS)
    settle(page)
    go(page, "Search")
    expect(page.locator(".st-key-search-start button").first).to_be_visible(timeout=app.SECONDS)
    settle(page)


def fill(page: Page, box: Locator, text: str) -> None:
    box.fill(text)
    box.press("Enter")
    settle(page)


def pick(page: Page, field: str, option: str) -> None:
    page.locator(f".st-key-search-{field} input").click()
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)


def choose(page: Page, strategy: str, most: int, draws: int) -> None:
    pick(page, "strategy", strategy)
    fill(page, page.locator("[class*=st-key-search-most] input"), str(most))
    fill(page, page.locator(".st-key-search-controls input"), str(draws))


def markers(page: Page, chart: str) -> list[tuple[float, float, str]]:
    """x, y and id of the validation markers of a chart."""
    found = page.locator(f"[class*=st-key-{chart}] .js-plotly-plot").first.evaluate(
        "gd => { const t = gd._fullData.find(one => one.name === 'validation' && one.ids);"
        " return Array.from(t.ids).map((id, i) => [t.x[i], t.y[i], id]); }"
    )
    return [(float(x), float(y), str(name)) for x, y, name in found]


def click_marker(page: Page, chart: str, place: int) -> None:
    """Click a validation marker where plotly draws it."""
    graph = page.locator(f"[class*=st-key-{chart}] .js-plotly-plot").first
    graph.scroll_into_view_if_needed()
    x, y = graph.evaluate(
        """(gd, place) => {
            const trace = gd._fullData.find(one => one.name === 'validation' && one.ids);
            const {xaxis, yaxis} = gd._fullLayout, box = gd.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(trace.x[place]),
                    box.top + yaxis._offset + yaxis.d2p(trace.y[place])];
        }""",
        place,
    )
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    page.mouse.down()
    page.mouse.up()


def test_search_watch_take_the_best_and_another_point(page: Page, url: str, root: Path, tmp_path: Path) -> None:
    open_search(page, url)
    expect(page.get_by_text("No search has run on this model and task yet")).to_be_visible()
    choose(page, "paper", 16, 40)
    press(page, "search-start")
    growing = page.locator("[class*=st-key-search-growing-accuracy] .js-plotly-plot").first
    open_button = page.locator(".st-key-search-open button:visible").first
    expect(growing).to_be_visible(timeout=app.SECONDS)
    expect(open_button).to_be_visible(timeout=app.SECONDS)
    settle(page)
    curve = markers(page, "search-curve")
    assert sorted(x for x, _, _ in curve) == [0, 1, 2, 4, 8, 16]
    assert [name for _, _, name in curve] == [str(place) for place in range(6)]

    chosen = page.locator("[class*=st-key-search-point] input")
    text = chosen.input_value()
    best = re.match(r"(\d+): ([\d,]+) removed, ([\d.]+ %), ([\d.]+ nats) \(best\)", text)
    assert best is not None, text
    with page.expect_download() as found:
        press(page, "search-report-json")
    report_path = tmp_path / "report.json"
    found.value.save_as(report_path)
    report = load_report(report_path)
    assert report.removed == int(best[2])
    with page.expect_download() as found:
        press(page, "search-report-html")
    html = tmp_path / "report.html"
    found.value.save_as(html)
    assert html.read_text().startswith("<!doctype html>")

    press(page, "search-open")
    expect(page.get_by_role("heading", name="Prune", exact=True)).to_be_visible(timeout=app.SECONDS)
    app.wait_for_removed(page, int(best[2]))
    assert figures(page) == {"accuracy": best[3], "loss": best[4]}
    saved = download(page, tmp_path)
    assert load_mask(saved).digest == report.mask_digest
    assert figures(page) == shown(cli_eval(saved, root))

    go(page, "Search")
    click_marker(page, "search-curve", 5)
    expect(chosen).to_have_value(re.compile("^6: 16 removed"), timeout=app.SECONDS)
    settle(page)
    press(page, "search-open")
    expect(page.get_by_role("heading", name="Prune", exact=True)).to_be_visible(timeout=app.SECONDS)
    app.wait_for_removed(page, 16)
    press(page, "undo")
    app.wait_for_removed(page, int(best[2]))


@pytest.mark.journey
def test_a_search_outlasts_a_reload_and_stops_with_its_best_mask(page: Page, url: str, subject: Subject) -> None:
    open_search(page, url, subject.query)
    choose(page, "ensemble", 8, 1)
    pick(page, "base", "learned")
    fill(page, page.locator("[class*=st-key-search-members] input"), "50")  # it outlasts any reload
    press(page, "search-start")
    expect(page.get_by_text("Best so far, on validation")).to_be_visible(timeout=app.SECONDS)
    page.wait_for_timeout(1000)  # the URL gets the session's name
    page.reload()
    expect(page.get_by_text("Best so far, on validation")).to_be_visible(timeout=app.SECONDS)
    press(page, "search-stop")
    expect(page.get_by_text("It was stopped; Go on takes it up there.")).to_be_visible(timeout=app.SECONDS)
    expect(page.locator(".st-key-search-start button").first).to_contain_text("Go on")
    expect(page.locator(".st-key-search-open button:visible").first).to_be_visible()
