"""What a click shows, and when: first the live sample, then the whole split; and the bench that times it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from explorer.masks.mask import load_mask
from explorer.models import Model
from explorer.spectra.cache import SvdCache
from explorer.ui.components import ticker
from tests.bench import latency
from tests.browser import app, chart
from tests.browser.conftest import StartServer, open_app

pytestmark = pytest.mark.browser

_LABELS = """() => {
    const seen = (window.__labels = []);
    const card = () => document.querySelector(".st-key-metric-loss [data-testid=stMetricLabel]")?.textContent;
    new MutationObserver(() => {
        if (card() && card() !== seen.at(-1)) seen.push(card());
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def test_the_sample_comes_first_and_the_split_fills_in(
    page: Page, streamlit_server: StartServer, tmp_path: Path, bundled: Model, svds: SvdCache
) -> None:
    url = streamlit_server(app.APP, app.folders(tmp_path))
    open_app(page, f"{url}/prune?task=int-sum")
    chart.graph(page, app.CHART).wait_for(timeout=app.SECONDS)
    app.settle(page)
    page.evaluate(_LABELS)
    matrix = chart.evaluate(page, app.CHART, "return gd._fullData.find((one) => one.meta?.matrix).meta.matrix;")
    for index in (3, 5, 7):  # each outdates the measurement of the one before
        chart.click_point(page, app.CHART, str(matrix), index)
        page.wait_for_timeout(200)
    app.wait_for_removed(page, 3)
    labels = page.evaluate("window.__labels")
    assert "Loss, live sample" in labels
    assert labels[-1] == "Loss, validation"
    mask = load_mask(app.download(page, tmp_path))
    assert app.figures(page) == app.shown(app.measured(bundled, mask, svds, "int-sum"))


def test_what_is_measured_reaches_the_page_without_another_run_of_it(
    page: Page, streamlit_server: StartServer, tmp_path: Path, bundled: Model, svds: SvdCache
) -> None:
    runs: list[str] = []

    def count(data: str | bytes) -> None:
        message = ForwardMsg.FromString(data) if isinstance(data, bytes) else ForwardMsg()
        if message.WhichOneof("type") == "script_finished":
            runs.append("page" if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY else "fragments")

    page.on("websocket", lambda socket: socket.on("framereceived", count))
    url = streamlit_server(app.APP, app.folders(tmp_path))
    open_app(page, f"{url}/prune?task=int-sum")
    chart.graph(page, app.CHART).wait_for(timeout=app.SECONDS)
    app.settle(page)
    runs.clear()
    matrix = chart.evaluate(page, app.CHART, "return gd._fullData.find((one) => one.meta?.matrix).meta.matrix;")
    chart.click_point(page, app.CHART, str(matrix), 3)
    app.wait_for_removed(page, 1)
    whole = app.measured(bundled, load_mask(app.download(page, tmp_path)), svds, "int-sum")
    assert app.figures(page) == app.shown(whole)
    consequences = page.get_by_role("tabpanel").first
    expect(consequences).to_contain_text(f"of {whole['n']:,} examples")
    assert runs.count("page") == 1
    app.press(page, "controls")  # takes longer than a page's run
    expect(page.locator(".st-key-metric-control")).to_contain_text("percentile", timeout=app.SECONDS)
    expect(consequences.locator(".js-plotly-plot")).to_be_visible(timeout=app.SECONDS)
    app.settle(page)
    assert runs.count("page") == 1
    before = len(runs)
    page.wait_for_timeout(3000 * ticker.EVERY)
    assert len(runs) == before  # nothing is looked for any more


def test_the_latency_bench_counts_every_click(browser: Browser) -> None:
    rows = latency.measure_in(browser, "bundled", 3)
    assert [one["runs"] for one in rows] == [3, 3, 3, 3]
    for one in rows:
        ours, reference, ratio = one["ours_ms"], one["reference_ms"], one["ratio"]
        assert isinstance(ours, float)
        assert isinstance(reference, float)
        assert ratio == pytest.approx(ours / reference)
        assert ours > 0
