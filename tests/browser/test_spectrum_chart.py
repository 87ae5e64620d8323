"""The clickable plot in a real browser, against a real Streamlit server."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser import chart
from tests.browser.conftest import StartServer, open_app, wait_until_idle

pytestmark = pytest.mark.browser

DEMO = Path(__file__).with_name("demo_chart.py")
KEY, MATRIX, OTHER = "demo", "L0.Q.H0", "L0.Q.H1"


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer) -> str:
    return streamlit_server(DEMO)


def open_demo(page: Page, url: str, query: str = "") -> None:
    open_app(page, f"{url}/?{query}")
    chart.settle(page, KEY)


def python_state(page: Page) -> tuple[list[Any], dict[str, list[int]]]:
    """(history of picks, removed) as Python holds them."""
    texts = page.locator("[data-testid=stCode]").all_inner_texts()
    return ast.literal_eval(texts[0]), ast.literal_eval(texts[1])


def wait_for_picks(page: Page, count: int) -> tuple[list[Any], dict[str, list[int]]]:
    """Wait until Python has handled at least ``count`` picks and is idle."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        history, _removed = python_state(page)
        if len(history) >= count:
            break
        page.wait_for_timeout(50)
    page.wait_for_timeout(500)
    wait_until_idle(page)
    return python_state(page)


def removed_in_plot(page: Page, matrix: str = MATRIX) -> list[int]:
    return chart.displayed_state(page, KEY)[matrix]["removed"]


@pytest.mark.parametrize("query", ["slow=0", "slow=0.3", "slow=0.3&mode=returned"])
def test_twenty_fast_clicks_arrive_exactly_once(page: Page, url: str, query: str) -> None:
    open_demo(page, url, query)
    targets = [i for i in range(24) if i not in (5, 6, 7)][:20]
    for index in targets:
        chart.click_point(page, KEY, MATRIX, index)
    history, removed = wait_for_picks(page, 20)
    assert [points for _, _, points in history] == [((MATRIX, (i,)),) for i in targets]
    assert [seq for seq, _, _ in history] == list(range(1, 21))
    assert removed == {MATRIX: targets}
    assert removed_in_plot(page) == targets


def test_a_click_costs_one_rerun_of_the_fragment_alone(page: Page, url: str) -> None:
    open_demo(page, url)
    before = [int(page.get_by_test_id(f"count-{name}").inner_text()) for name in ("runs", "fragment_runs")]
    chart.click_point(page, KEY, MATRIX, 3)
    wait_for_picks(page, 1)
    after = [int(page.get_by_test_id(f"count-{name}").inner_text()) for name in ("runs", "fragment_runs")]
    assert after == [before[0], before[1] + 1]


def test_clicking_the_same_point_again_restores_it(page: Page, url: str) -> None:
    open_demo(page, url)
    for _ in range(3):
        chart.click_point(page, KEY, MATRIX, 4)
    _, removed = wait_for_picks(page, 3)
    assert removed == {MATRIX: [4]}
    assert removed_in_plot(page) == [4]
    page.mouse.dblclick(*chart.pixel(page, KEY, MATRIX, 4))  # two toggles
    _, removed = wait_for_picks(page, 5)
    assert removed == {MATRIX: [4]}
    assert removed_in_plot(page) == [4]


def test_a_member_takes_its_block_along(page: Page, url: str) -> None:
    open_demo(page, url)
    chart.click_point(page, KEY, MATRIX, 6)
    assert removed_in_plot(page) == [5, 6, 7]
    _, removed = wait_for_picks(page, 1)
    assert removed == {MATRIX: [5, 6, 7]}
    assert removed_in_plot(page) == [5, 6, 7]


def test_the_plot_recolours_before_python_answers(page: Page, url: str) -> None:
    open_demo(page, url, "slow=2")
    chart.click_point(page, KEY, MATRIX, 2)
    assert removed_in_plot(page) == [2]
    assert python_state(page)[0] == []  # Python is still asleep
    chart.click_point(page, KEY, MATRIX, 3)
    assert removed_in_plot(page) == [2, 3]
    _, removed = wait_for_picks(page, 2)
    assert removed == {MATRIX: [2, 3]}
    assert removed_in_plot(page) == [2, 3]


@pytest.mark.parametrize("query", ["n=32", "n=600&series=1", "n=4000&series=1"])
def test_a_removed_value_is_hollow_above_its_neighbours(page: Page, url: str, query: str) -> None:
    open_demo(page, url, query)
    index = 20 if "n=32" in query else 200

    def hollow() -> bool:
        return chart.drawn_hollow(page, KEY, MATRIX, index)

    assert not hollow()
    chart.click_point(page, KEY, MATRIX, index)
    wait_for_picks(page, 1)
    assert removed_in_plot(page) == [index]
    assert hollow()
    for _ in range(2):  # the plot is drawn anew: its mark is part of a trace now
        page.get_by_text("log axis").click()
        wait_until_idle(page)
    assert hollow()
    chart.click_point(page, KEY, MATRIX, index)
    wait_for_picks(page, 2)
    assert removed_in_plot(page) == []
    assert not hollow()


POINT_AND_MARK = """const [matrix, index] = argument;
    const { uid } = gd._fullData.find((one) => one.meta?.matrix === matrix);
    const point = gd.querySelectorAll(`.trace${uid} path.point`)[index];
    const place = gd.layout.shapes.findIndex((one) => one.name === `${matrix} ${index}`);
    const mark = gd.querySelectorAll(".shapelayer path")[place];
    const colours = [getComputedStyle(point).fill, getComputedStyle(mark).stroke];
    const sizes = [point, mark].map((one) => one.getBBox()).map(({ width, height }) => [width, height]);
    return [...colours, ...sizes];"""


def test_a_mark_has_its_points_form_and_colour(page: Page, url: str) -> None:
    open_demo(page, url, "n=24&series=8&y=score")
    for number in range(8):
        matrix = f"L0.Q.H{number}"
        for index in (2, 3):
            chart.click_point(page, KEY, matrix, index)
            assert removed_in_plot(page, matrix)[-1] == index
            fill, stroke, point, mark = chart.evaluate(page, KEY, POINT_AND_MARK, [matrix, index])
            channels = [[int(one) for one in re.findall(r"\d+", colour)] for colour in (fill, stroke)]
            assert channels[1] == pytest.approx(channels[0], abs=1)
            assert mark == pytest.approx(point, abs=0.3)


def test_many_values_at_once(page: Page, url: str) -> None:
    open_demo(page, url, "n=600&series=1")
    everything = list(range(600))
    for count, expected in enumerate((everything, [], everything), start=1):
        chart.box_select(page, KEY, MATRIX, 0, 599)
        wait_for_picks(page, count)
        assert removed_in_plot(page) == expected
        assert chart.drawn_hollow(page, KEY, MATRIX, 599) == bool(expected)  # no later ring covers it
        assert chart.evaluate(page, KEY, "return gd.layout.shapes.length") == 0  # as traces, which draw them faster


def test_marks_are_hidden_with_their_series(page: Page, url: str) -> None:
    open_demo(page, url)
    shapes = "return (gd.layout.shapes ?? []).map((one) => one.name)"
    chart.click_point(page, KEY, MATRIX, 3)
    chart.click_point(page, KEY, OTHER, 4)
    assert chart.evaluate(page, KEY, shapes) == [f"{MATRIX} 3", f"{OTHER} 4"]
    chart.graph(page, KEY).locator(".legendtoggle").first.click()
    page.wait_for_timeout(600)
    assert chart.evaluate(page, KEY, shapes) == [f"{OTHER} 4"]
    chart.graph(page, KEY).locator(".legendtoggle").first.click()
    page.wait_for_timeout(600)
    assert chart.evaluate(page, KEY, shapes) == [f"{MATRIX} 3", f"{OTHER} 4"]


def test_zoom_and_tool_survive_clicks(page: Page, url: str) -> None:
    open_demo(page, url)
    chart.set_tool(page, KEY, "Zoom")
    (left, high), (right, _) = chart.pixel(page, KEY, MATRIX, 8), chart.pixel(page, KEY, MATRIX, 16)
    chart.drag(page, [(left - 12, high - 60), (right + 12, high + 120)])
    page.wait_for_timeout(300)
    zoomed = chart.view(page, KEY)
    assert zoomed["x"][0] > 6
    assert zoomed["x"][1] < 18
    assert zoomed["tool"] == "zoom"
    for index in (10, 12):
        chart.click_point(page, KEY, MATRIX, index)
    _, removed = wait_for_picks(page, 2)
    assert removed == {MATRIX: [10, 12]}
    assert chart.view(page, KEY) == zoomed
    page.mouse.dblclick(left + 30, high - 40)  # empty: resets the axes, picks nothing
    page.wait_for_timeout(600)
    assert chart.view(page, KEY)["x"][1] > 30
    assert len(wait_for_picks(page, 2)[0]) == 2


def test_box_select_removes_and_restores(page: Page, url: str) -> None:
    open_demo(page, url)
    chart.box_select(page, KEY, MATRIX, 10, 14)
    wait_for_picks(page, 1)
    assert removed_in_plot(page) == removed_in_plot(page, OTHER) == [10, 11, 12, 13, 14]
    history, removed = wait_for_picks(page, 1)
    assert history[0][1:] == ["box", ((MATRIX, (10, 11, 12, 13, 14)), (OTHER, (10, 11, 12, 13, 14)))]
    assert removed == {MATRIX: [10, 11, 12, 13, 14], OTHER: [10, 11, 12, 13, 14]}
    assert chart.evaluate(page, KEY, "return gd._fullLayout.selections.length") == 0
    chart.box_select(page, KEY, MATRIX, 12, 14)
    _, removed = wait_for_picks(page, 2)
    assert removed == {MATRIX: [10, 11], OTHER: [10, 11]}
    assert removed_in_plot(page) == [10, 11]
    chart.click_point(page, KEY, MATRIX, 20)
    assert chart.view(page, KEY)["tool"] == "select"
    assert wait_for_picks(page, 3)[1] == {MATRIX: [10, 11, 20], OTHER: [10, 11]}


def test_lasso_select(page: Page, url: str) -> None:
    open_demo(page, url, "series=1")
    chart.set_tool(page, KEY, "Lasso Select")
    (left, high), (right, low) = chart.pixel(page, KEY, MATRIX, 15), chart.pixel(page, KEY, MATRIX, 18)
    corners = [(left - 6, high - 12), (right + 6, high - 12), (right + 6, low + 12), (left - 6, low + 12)]
    chart.drag(page, [*corners, corners[0]])
    history, removed = wait_for_picks(page, 1)
    assert [kind for _, kind, _ in history] == ["lasso"]
    assert removed == {MATRIX: [15, 16, 17, 18]}
    chart.click_point(page, KEY, MATRIX, 1)  # with the lasso tool a click is still a click
    history, removed = wait_for_picks(page, 2)
    assert [kind for _, kind, _ in history] == ["lasso", "click"]
    assert removed == {MATRIX: [1, 15, 16, 17, 18]}


def test_log_and_linear_axis(page: Page, url: str) -> None:
    open_demo(page, url)
    assert chart.view(page, KEY)["type"] == "log"
    page.get_by_text("log axis").click()
    page.wait_for_timeout(500)
    wait_until_idle(page)
    assert chart.view(page, KEY)["type"] == "linear"
    chart.click_point(page, KEY, OTHER, 31)  # a null value
    assert wait_for_picks(page, 1)[1] == {OTHER: [31]}


def test_scores_as_heights(page: Page, url: str) -> None:
    open_demo(page, url, "y=score&log=1")
    assert chart.view(page, KEY)["type"] == "linear"
    chart.click_point(page, KEY, OTHER, 9)
    assert wait_for_picks(page, 1)[1] == {OTHER: [9]}


EDGES = "return gd.data.filter((one) => one.line?.dash === 'dash' && one.mode === 'lines').map((one) => [...one.y]);"


def test_the_edge_of_the_bulk_is_a_line_across_singular_values(page: Page, url: str) -> None:
    open_demo(page, url, "edge=1.5")
    assert chart.evaluate(page, KEY, EDGES) == [[1.5, 1.5], [2.5, 2.5]]
    assert page.get_by_text("bulk edge").count() == 1
    chart.click_point(page, KEY, OTHER, 9)  # points are told apart from the line
    assert wait_for_picks(page, 1)[1] == {OTHER: [9]}
    open_demo(page, url, "edge=1.5&y=score")
    assert chart.evaluate(page, KEY, EDGES) == []
    open_demo(page, url)
    assert chart.evaluate(page, KEY, EDGES) == []
    assert page.get_by_text("bulk edge").count() == 0


def test_what_cannot_be_predicted_has_a_mark(page: Page, url: str) -> None:
    open_demo(page, url, "uncertain=1")
    marks = "return gd.data.filter((one) => one.meta === 'uncertain').map((one) => [...one.x]);"
    assert chart.evaluate(page, KEY, marks) == [[2, 9], [2, 9]]
    expect(page.locator(".spectrum-chart__key")).to_contain_text("sign in doubt")
    chart.click_point(page, KEY, OTHER, 9)  # the mark lies beside the point
    assert wait_for_picks(page, 1)[1] == {OTHER: [9]}
    assert chart.displayed_state(page, KEY)[OTHER]["removed"] == [9]
    open_demo(page, url)
    assert chart.evaluate(page, KEY, marks) == []
    expect(page.locator(".spectrum-chart__key")).not_to_contain_text("sign in doubt")


def test_twenty_thousand_points_use_webgl_and_travel_once(page: Page, url: str) -> None:
    received: list[int] = []
    page.on("websocket", lambda ws: ws.on("framereceived", lambda data: received.append(len(data))))
    open_demo(page, url, "n=10000")
    assert chart.view(page, KEY)["traces"] == ["scattergl", "scattergl"]
    chart.click_point(page, KEY, MATRIX, 9900)
    wait_for_picks(page, 1)
    received.clear()
    chart.click_point(page, KEY, OTHER, 8000)
    history, removed = wait_for_picks(page, 2)
    assert [points[0][0] for _, _, points in history] == [MATRIX, OTHER]
    assert sum(len(indices) for indices in removed.values()) == 2
    assert chart.displayed_state(page, KEY)[OTHER]["removed"] == removed[OTHER]
    assert sum(received) < 80_000  # the arrays alone are 320,000 bytes in base64


def test_colours_follow_the_theme_without_a_reload(page: Page, url: str) -> None:
    page.emulate_media(color_scheme="dark")
    open_demo(page, url)
    chart.click_point(page, KEY, MATRIX, 3)
    wait_for_picks(page, 1)
    body = "return [gd._fullLayout.paper_bgcolor, gd._fullLayout.font.color]"
    dark = chart.evaluate(page, KEY, body)
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(1000)
    light = chart.evaluate(page, KEY, body)
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    assert removed_in_plot(page) == [3]


def test_a_plot_library_that_did_not_come_is_asked_for_again(page: Page, url: str) -> None:
    failed: list[str] = []

    def fail_twice(route: Route) -> None:
        if len(failed) == 2:
            route.continue_()
        else:
            failed.append(route.request.url)
            route.abort()

    page.route("**/plotly.min.js*", fail_twice)
    open_demo(page, url)
    assert len(failed) == 2
    expect(page.locator(".spectrum-chart__key")).to_contain_text("kept")
    chart.click_point(page, KEY, MATRIX, 2)
    assert wait_for_picks(page, 1)[1] == {MATRIX: [2]}


def test_the_tip_tells_what_is_under_the_pointer(page: Page, url: str) -> None:
    open_demo(page, url, "series=1")
    page.mouse.move(*chart.pixel(page, KEY, MATRIX, 6))
    tip = page.locator(".spectrum-chart__tip")
    expect(tip).to_contain_text("L0.Q.H0, index 6")
    expect(tip).to_contain_text("kept")
    expect(tip).to_contain_text("degenerate block: 5–7")
    page.mouse.move(*chart.pixel(page, KEY, MATRIX, 31))
    expect(tip).to_contain_text("numerically null")


def test_keyboard(page: Page, url: str) -> None:
    open_demo(page, url)
    page.locator("[data-testid=spectrum-chart]").focus()
    for name in ("Home", "ArrowRight", "ArrowRight", "Enter", "ArrowDown", "Space"):
        page.keyboard.press(name)
    _, removed = wait_for_picks(page, 2)
    assert removed == {MATRIX: [2], OTHER: [2]}


def test_a_plot_that_comes_back_goes_on_where_it_was(page: Page, url: str) -> None:
    open_demo(page, url)
    chart.click_point(page, KEY, MATRIX, 10)
    chart.click_point(page, KEY, MATRIX, 11)
    wait_for_picks(page, 2)
    page.get_by_text("hide plot").click()
    expect(page.locator("[data-testid=spectrum-chart]")).to_have_count(0)
    page.get_by_text("hide plot").click()
    assert removed_in_plot(page) == [10, 11]
    wait_until_idle(page)
    chart.click_point(page, KEY, MATRIX, 11)
    chart.click_point(page, KEY, MATRIX, 12)
    history, removed = wait_for_picks(page, 4)
    assert [seq for seq, _, _ in history] == [1, 2, 3, 4]
    assert removed == {MATRIX: [10, 12]}
    assert removed_in_plot(page) == [10, 12]


def test_resizes_with_its_container(page: Page, url: str) -> None:
    open_demo(page, url)
    wide = chart.evaluate(page, KEY, "return gd._fullLayout.width")
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_timeout(500)
    assert chart.evaluate(page, KEY, "return gd._fullLayout.width") < wide - 200
    chart.click_point(page, KEY, MATRIX, 11)
    assert wait_for_picks(page, 1)[1] == {MATRIX: [11]}


def test_read_only_takes_no_picks(page: Page, url: str) -> None:
    open_demo(page, url, "mode=readonly")
    chart.click_point(page, KEY, MATRIX, 3)
    page.wait_for_timeout(700)
    assert python_state(page) == ([], {})
    assert removed_in_plot(page) == []
    assert chart.graph(page, KEY).locator('[data-title="Box Select"]').count() == 0


def test_no_logo_and_no_upload_button(page: Page, url: str) -> None:
    open_demo(page, url)
    titles = chart.graph(page, KEY).locator(".modebar-btn").evaluate_all("all => all.map((b) => b.dataset.title)")
    assert titles[:4] == ["Box Select", "Lasso Select", "Zoom", "Pan"]
    assert not [title for title in titles if "cloud" in title.lower() or "share" in title.lower()]
    assert "Download as SVG" in titles
    assert any("png" in title.lower() for title in titles)
    with page.expect_download() as download:
        chart.set_tool(page, KEY, "Download as SVG")
    assert Path(download.value.path()).read_text().lstrip().startswith("<svg")
