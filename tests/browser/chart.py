"""Drive the clickable plot from a browser test.

The component is not in a shadow root. Its host is ``[data-testid=spectrum-chart][data-chart-key=<key>]``, its
graph ``.spectrum-chart__plot`` is plotly's own graph div. Pixels come from plotly's axes (``_fullLayout``), the
displayed state from the marks: a trace of them for each matrix, and a shape for each value that changed since.
"""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

from PIL import Image, ImageColor
from playwright.sync_api import Locator, Page

_SETTLED = """([gd, rest]) => {
    const seen = (window.__settledCharts ??= new WeakMap());
    if (!gd.isConnected) return false;
    if (!seen.has(gd)) seen.set(gd, performance.now());
    return performance.now() - seen.get(gd) >= rest;
}"""
_REST_MS = 400  # Streamlit may mount a new component a second time while the page is still laid out

_FIND = """([gd, matrix]) => {
    const k = gd._fullData.findIndex((trace) => trace.meta?.matrix === matrix);
    if (k < 0) throw new Error(`no trace for ${matrix}`);
    return gd._fullData[k];
}"""


def graph(page: Page, chart_key: str) -> Locator:
    """The graph div of a chart that has been drawn."""
    host = page.locator(f'[data-testid=spectrum-chart][data-chart-key="{chart_key}"][data-ready]')
    host.wait_for()
    return host.locator(".spectrum-chart__plot")


def settle(page: Page, chart_key: str) -> None:
    """Wait until the graph div has been the same for a moment, then bring it into view.

    Only a new graph costs the wait: on one that has settled, clicks can follow each other at full speed.
    """
    deadline = time.monotonic() + 30
    while not graph(page, chart_key).evaluate(f"(gd) => ({_SETTLED})([gd, {_REST_MS}])"):
        if time.monotonic() > deadline:
            raise AssertionError(f"the plot {chart_key!r} was replaced again and again for 30 s")
        page.wait_for_timeout(50)
    evaluate(page, chart_key, "gd.scrollIntoView({ block: 'nearest', behavior: 'instant' });")


def evaluate(page: Page, chart_key: str, body: str, argument: object = None) -> Any:
    """Run ``(gd, argument) => body`` in the page, with ``gd`` plotly's graph div."""
    return graph(page, chart_key).evaluate(f"(gd, argument) => {{ {body} }}", argument)


def pixel(page: Page, chart_key: str, matrix: str, index: int) -> tuple[float, float]:
    """Viewport coordinates of a point."""
    x, y = evaluate(
        page,
        chart_key,
        f"""const [matrix, index] = argument;
        const trace = ({_FIND})([gd, matrix]);
        const {{ xaxis, yaxis }} = gd._fullLayout;
        const box = gd.getBoundingClientRect();
        return [box.left + xaxis._offset + xaxis.d2p(trace.x[index]),
                box.top + yaxis._offset + yaxis.d2p(trace.y[index])];""",
        [matrix, index],
    )
    return float(x), float(y)


def click_point(page: Page, chart_key: str, matrix: str, index: int) -> None:
    """Click a point the hard way: no rest between the move and the press."""
    settle(page, chart_key)
    page.mouse.click(*pixel(page, chart_key, matrix, index))


def drag(page: Page, points: list[tuple[float, float]]) -> None:
    """Press at the first point, move through the others, release at the last."""
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def set_tool(page: Page, chart_key: str, title: str) -> None:
    """Choose a tool in the mode bar: "Box Select", "Lasso Select", "Zoom" or "Pan"."""
    graph(page, chart_key).locator(f'.modebar-btn[data-title="{title}"]').click()


def box_select(page: Page, chart_key: str, matrix: str, first: int, last: int, margin: float = 4) -> None:
    """Draw a box over the whole height around the points ``first..last`` (with "Box Select")."""
    settle(page, chart_key)
    set_tool(page, chart_key, "Box Select")
    left, right = pixel(page, chart_key, matrix, first)[0] - margin, pixel(page, chart_key, matrix, last)[0] + margin
    top, bottom = plot_area(page, chart_key)
    drag(page, [(left, top + 2), (right, bottom - 2)])


def plot_area(page: Page, chart_key: str) -> tuple[float, float]:
    """Top and bottom of the plot area in viewport coordinates."""
    top, bottom = evaluate(
        page,
        chart_key,
        """const { yaxis } = gd._fullLayout;
        const top = gd.getBoundingClientRect().top + yaxis._offset;
        return [top, top + yaxis._length];""",
    )
    return float(top), float(bottom)


def displayed_state(page: Page, chart_key: str) -> dict[str, dict[str, list[int]]]:
    """``{matrix: {"removed": [...], "kept": [...]}}`` as the plot draws it now."""
    state: dict[str, dict[str, list[int]]] = evaluate(
        page,
        chart_key,
        """const state = {};
        const shapes = new Set((gd.layout.shapes ?? []).map((shape) => shape.name));
        for (const { meta, x } of gd._fullData) {
            if (!meta?.matrix) continue;
            const marked = gd._fullData.find((trace) => trace.meta?.marks === meta.matrix).x;
            const chosen = (i) => marked.includes(i) !== shapes.has(`${meta.matrix} ${i}`);
            const indices = Array.from(x);
            state[meta.matrix] = { removed: indices.filter(chosen), kept: indices.filter((i) => !chosen(i)) };
        }
        return state;""",
    )
    return state


def drawn_hollow(page: Page, chart_key: str, matrix: str, index: int) -> bool:
    """Whether the middle of a point has the plot's background, by its pixels."""
    settle(page, chart_key)
    page.mouse.move(1, 1)
    page.wait_for_timeout(100)
    x, y = pixel(page, chart_key, matrix, index)
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    background = evaluate(page, chart_key, "return gd._fullLayout.paper_bgcolor;")
    return picture.getpixel((round(x), round(y))) == ImageColor.getrgb(background)


def view(page: Page, chart_key: str) -> dict[str, Any]:
    """What a user set: axis ranges, axis type, tool; and the trace types."""
    seen: dict[str, Any] = evaluate(
        page,
        chart_key,
        """const { xaxis, yaxis, dragmode } = gd._fullLayout;
        return { x: xaxis.range, y: yaxis.range, type: yaxis.type, tool: dragmode,
                 traces: gd._fullData.filter((t) => t.meta?.matrix).map((t) => t.type) };""",
    )
    return seen
