"""What a click shows, and when: first the live sample, then the whole split; and the bench that times it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from explorer.masks.mask import load_mask
from explorer.spectra.cache import SvdCache
from explorer.ui.components import painting
from tests.bench import latency
from tests.browser import app, chart, subjects
from tests.browser.conftest import StartServer, open_app
from tests.browser.subjects import Subject

pytestmark = pytest.mark.browser

_LABELS = """() => {
    const seen = (window.__labels = []);
    const card = () => document.querySelector(".st-key-metric-loss [data-testid=stMetricLabel]")?.textContent;
    new MutationObserver(() => {
        if (card() && card() !== seen.at(-1)) seen.push(card());
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(app.APP, app.folders(root))


@pytest.fixture
def larger(subject: Subject) -> Subject:
    """A subject whose split takes longer than its sample; that of a user's own task is as large as it is."""
    return replace(subject, task="int-sum") if subject == subjects.usual() else subject


def open_live(page: Page, url: str, subject: Subject) -> str:
    """Open the Prune page; the name of the matrix whose values are plotted."""
    open_app(page, f"{url}/prune?{subject.query}")
    chart.graph(page, app.CHART).wait_for(timeout=app.SECONDS)
    app.settle(page)
    return str(chart.evaluate(page, app.CHART, "return gd._fullData.find((one) => one.meta?.matrix).meta.matrix;"))


def test_the_sample_comes_first_and_the_split_fills_in(
    page: Page, url: str, larger: Subject, tmp_path: Path, svds: SvdCache
) -> None:
    matrix = open_live(page, url, larger)
    page.evaluate(_LABELS)
    for index in (1, 3, 5):  # each outdates the measurement of the one before
        chart.click_point(page, app.CHART, matrix, index)
        page.wait_for_timeout(200)
    app.wait_for_removed(page, 3)
    labels, task = page.evaluate("window.__labels"), larger.read()
    if larger.model == subjects.usual().model:  # the other split is measured before a sample is drawn
        assert "Loss, live sample" in labels
    assert labels[-1] == "Loss, validation"
    mask = load_mask(app.download(page, tmp_path))
    assert app.figures(page) == app.shown(app.measured(larger.loaded(), mask, svds, task))


def test_what_is_measured_reaches_the_page_without_another_run_of_it(
    page: Page, url: str, larger: Subject, tmp_path: Path, svds: SvdCache
) -> None:
    runs: list[str] = []

    def count(data: str | bytes) -> None:
        message = ForwardMsg.FromString(data) if isinstance(data, bytes) else ForwardMsg()
        if message.WhichOneof("type") == "script_finished":
            runs.append("page" if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY else "fragments")

    page.on("websocket", lambda socket: socket.on("framereceived", count))
    matrix = open_live(page, url, larger)
    runs.clear()
    chart.click_point(page, app.CHART, matrix, 3)
    app.wait_for_removed(page, 1)
    whole = app.measured(larger.loaded(), load_mask(app.download(page, tmp_path)), svds, larger.read())
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
    page.wait_for_timeout(3000 * painting.LOOK)
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
