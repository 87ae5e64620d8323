"""What a click costs: from the press to the new measured accuracy on the screen, against the least that it can cost.

1. The Prune page and an empty Streamlit app with one plot and one text (`tests.bench.floor`) run side by side, each in
   a server of its own, in one headless Chromium.
2. They are clicked in turn, each when its page has come to rest. Clicks follow a Gray code over the values that matter
   most, so that every mask is new and nothing can come from a cache.
3. The page's own clock runs from the press to the frame that shows the new text; beside it, the longest task that kept
   the page's main thread busy until it was at rest again.
4. The app of one plot and one text is clicked with 20,000 points, too, against itself with 32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.bench.timing import Row, row
from tests.browser import app, chart
from tests.browser.conftest import StartServer, launch, open_app, wait_until_idle

FLOOR = Path(__file__).with_name("floor.py")
FEW, MANY = 32, 20_000  # points of the app of one plot
VALUES = 10  # as many values are toggled: enough for 1,023 masks
P95_RATIO, SAMPLE_SECONDS = 1.5, 3.0
LONG_TASK = 50.0  # milliseconds
TIMEOUT = 120_000
SIZE: ViewportSize = {"width": 1280, "height": 900}
_WATCH = """(selectors) => {
    const text = () => selectors.map((s) => document.querySelector(s)?.textContent ?? "").join("|");
    const bench = (window.__bench = { last: text(), took: null, blocked: 0, start: null });
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) bench.blocked = Math.max(bench.blocked, entry.duration);
    }).observe({ type: "longtask" });
    document.addEventListener("pointerdown", () => {
        Object.assign(bench, { last: text(), took: null, blocked: 0, start: performance.now() });
    }, { capture: true });
    new MutationObserver(() => {
        const now = text();
        if (bench.took !== null || bench.start === null || now === bench.last || now.includes("…")) return;
        bench.took = -1;
        requestAnimationFrame(() => setTimeout(() => { bench.took = performance.now() - bench.start; }));
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
_MATTER_MOST = """const [matrix, count] = argument;
    const scores = Array.from(gd._fullData.find((one) => one.meta?.matrix === matrix).marker.color).map(Math.abs);
    return scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]).slice(0, count);"""


@dataclass
class Clicked:
    """One page under test: where to click, and what was found (milliseconds)."""

    page: Page
    chart_key: str
    matrix: str
    values: Sequence[int]
    rest: Callable[[Page], None]
    took: list[float] = field(default_factory=list)
    blocked: list[float] = field(default_factory=list)

    def click(self, number: int) -> None:
        """The `number`-th click, from 1."""
        place = ((number & -number).bit_length() - 1) % len(self.values)
        self.page.bring_to_front()
        chart.click_point(self.page, self.chart_key, self.matrix, self.values[place])
        self.page.wait_for_function("window.__bench.took > 0", timeout=TIMEOUT)
        took = float(self.page.evaluate("window.__bench.took"))
        self.rest(self.page)
        self.took.append(took)
        self.blocked.append(float(self.page.evaluate("window.__bench.blocked")))


def measure(model: str, clicks: int) -> list[Row]:
    """Rows for one model, in a browser of its own."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            return measure_in(browser, model, clicks)
        finally:
            browser.close()


def measure_in(browser: Browser, model: str, clicks: int) -> list[Row]:
    """Rows for one model."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        start = StartServer(lambda: Path(tempfile.mkdtemp(dir=name)))
        stack.callback(start.stop_all)
        pages = [browser.new_page(viewport=SIZE) for _ in range(2)]
        for page in pages:
            page.set_default_timeout(TIMEOUT)
        ours = _prune(pages[0], start(app.APP, _folders(Path(name))), model)
        address = start(FLOOR)
        floor = _floor(pages[1], address, len(ours.values))
        for number in range(1, clicks + 1):
            floor.click(number)
            ours.click(number)
        rows = _rows(ours, floor, clicks, small=model == "bundled")
        if model == "bundled":
            many = _floor(pages[0], address, len(ours.values), MANY)
            rows.append(_many_points(many, floor, clicks))
        for page in pages:
            page.close()
    return rows


def _folders(root: Path) -> dict[str, str]:
    """A workspace of its own; models and decompositions come from the usual cache."""
    return {"EIGENPRUNE_WORKSPACE": app.folders(root)["EIGENPRUNE_WORKSPACE"]}


def _prune(page: Page, url: str, model: str) -> Clicked:
    open_app(page, f"{url}/prune?model={model}")
    chart.graph(page, app.CHART).wait_for(timeout=TIMEOUT)
    app.settle(page)
    page.locator(".st-key-by_block label").click()
    app.settle(page)
    matrix = str(chart.evaluate(page, app.CHART, "return gd._fullData.find((one) => one.meta?.matrix).meta.matrix;"))
    values = chart.evaluate(page, app.CHART, _MATTER_MOST, [matrix, VALUES])
    page.evaluate(_WATCH, [".st-key-metric-accuracy", ".st-key-metric-loss"])
    return Clicked(page, app.CHART, matrix, values, app.settle)


def _floor(page: Page, url: str, count: int, points: int = FEW) -> Clicked:
    open_app(page, f"{url}/?n={points}")
    chart.graph(page, "floor").wait_for()
    page.evaluate(_WATCH, [".st-key-text"])
    return Clicked(page, "floor", "L0.Q.H0", range(count), wait_until_idle)


def _many_points(many: Clicked, few: Clicked, clicks: int) -> Row:
    """The plot alone with very many points, beside few: clicked in turn."""
    start = len(few.took)
    for number in range(1, clicks + 1):
        few.click(number)
        many.click(number)
    one = row(
        f"{MANY:,} points: click to new text, p95",
        f"{FEW} points",
        _quantiles(many.took, few.took[start:], 0.95),
        P95_RATIO,
    )
    return _noted(one, clicks)


def _rows(ours: Clicked, floor: Clicked, clicks: int, *, small: bool) -> list[Row]:
    what, against = "click to new accuracy painted", "one plot, one text"
    rows = [
        row(f"{what}, p50", against, _quantiles(ours.took, floor.took, 0.50), None),
        row(f"{what}, p95", against, _quantiles(ours.took, floor.took, 0.95), P95_RATIO if small else None),
        row("longest task until at rest, p95", against, _quantiles(_long(ours), _long(floor), 0.95), 1.0),
    ]
    if not small:
        limit = [1000 * SAMPLE_SECONDS] * clicks
        sample = _quantiles(ours.took, limit, 0.95)
        rows.append(row("click to live sample painted, p95", f"{SAMPLE_SECONDS:g} s", sample, 1.0))
    return [_noted(one, clicks) for one in rows]


def _noted(one: Row, clicks: int) -> Row:
    return {**one, "note": f"{one['ours_ms']:.0f} ms against {one['reference_ms']:.0f} ms, {clicks} clicks each"}


def _long(clicked: Clicked) -> list[float]:
    """Longest tasks; browsers report those of `LONG_TASK` and more."""
    return [max(one, LONG_TASK) for one in clicked.blocked]


def _quantiles(ours: Sequence[float], reference: Sequence[float], q: float) -> Row:
    """A quantile of both, their ratio, and its 95 % bootstrap interval over pairs of clicks."""
    pairs = np.array([ours, reference])
    draws = np.random.default_rng(0).integers(pairs.shape[1], size=(1000, pairs.shape[1]))
    top, bottom = np.quantile(pairs[:, draws], q, axis=2)
    spread = np.quantile(top / bottom, [0.025, 0.975])
    mine, theirs = (float(value) for value in np.quantile(pairs, q, axis=1))
    return {
        "ours_ms": mine,
        "reference_ms": theirs,
        "ratio": mine / theirs,
        "ratio_range": [float(value) for value in spread],
        "runs": pairs.shape[1],
    }
