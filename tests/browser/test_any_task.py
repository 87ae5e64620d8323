"""Ways between the pages, and what outlasts them, on models and tasks that are not the usual ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from explorer.models import fetch
from tests.browser import app, chart, subjects
from tests.browser.app import APP, CHART, give_task, go, open_prune, press, settle
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import NewPage, StartServer, open_app
from tests.browser.subjects import Subject
from tests.browser.test_scores import click_place, select_row

pytestmark = pytest.mark.browser

SETTINGS = "score_limit=16&eval_limit=16&kinds=V_O&granularity=stacked"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(APP, app.folders(root))


@pytest.fixture(
    params=[
        "bundled",
        pytest.param("grouped", marks=pytest.mark.journey),
        pytest.param("smollm2-135m", marks=pytest.mark.slow),
    ]
)
def own(request: pytest.FixtureRequest, root: Path) -> Subject:
    """A task of the user's own, on several models."""
    if request.param == "smollm2-135m":
        return subjects.own(root, model=str(fetch("smollm2-135m")))
    return subjects.own(root, model="bundled" if request.param == "bundled" else None)


def asked(page: Page) -> dict[str, str]:
    """What the URL says, without the session, the mask and what a page shows."""
    found = {name: values[-1] for name, values in parse_qs(urlsplit(page.url).query).items()}
    return {name: found[name] for name in ("model", "task", *re.findall(r"(\w+)=", SETTINGS)) if name in found}


def expected(subject: Subject) -> dict[str, str]:
    named = {"model": subject.model, "task": subject.task} | dict(re.findall(r"(\w+)=(\w+)", SETTINGS))
    return {name: value for name, value in named.items() if (name, value) != ("model", "bundled")}


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", name=text, exact=True)).to_be_visible(timeout=app.SECONDS)
    settle(page)
    expect(page.locator("[data-testid=stException]")).to_have_count(0)


def by_hand(page: Page, *indices: int) -> str:
    """Click points of the plot, one by one; gives the matrix."""
    page.locator(".st-key-by_block label").click()
    settle(page)
    matrix = next(iter(chart.displayed_state(page, CHART)))
    for index in indices:
        chart.click_point(page, CHART, matrix, index)
    removed(page, len(indices))
    return matrix


def test_every_way_between_pages_keeps_model_task_and_settings(page: Page, url: str, own: Subject) -> None:
    open_app(page, f"{url}/?{own.query}&{SETTINGS}")
    heading(page, "Eigenpruning")
    assert asked(page) == expected(own)
    click_place(page, "score-map", "L0.V")
    heading(page, "Spectra")
    assert list(chart.displayed_state(page, "spectra-chart")) == ["L0.V"]
    assert asked(page) == expected(own)

    go(page, "Scores")
    press(page, "measure-these")
    expect(page.locator(".st-key-pairs .js-plotly-plot")).to_be_visible(timeout=app.SECONDS)
    settle(page)
    select_row(page, "ranking", 0)
    settle(page)
    press(page, "open-selected")
    heading(page, "Spectra")
    assert asked(page) == expected(own)
    expect(page.get_by_text("Exact effect of removing it alone")).to_be_visible()  # it was measured on Scores
    expect(page.locator(".st-key-measure-exactly")).to_have_count(0)

    go(page, "Activations")
    example = own.read().split("validation")[0]
    expect(page.locator("[class*=st-key-prompt-] textarea")).to_have_value(example.prompt)

    go(page, "Search")
    page.locator(".st-key-search-strategy input").fill("paper")
    page.get_by_role("option", name="paper", exact=True).click()
    settle(page)
    for name, text in (("search-most", "4"), ("search-controls", "1")):
        box = page.locator(f"[class*=st-key-{name}] input")
        box.fill(text)
        box.press("Enter")
        settle(page)
    press(page, "search-start")
    if own.model.endswith("smollm2-135m"):  # its test figures and controls take minutes
        stop = page.get_by_role("button", name="Stop now, without test figures")
        expect(stop).to_be_visible(timeout=2 * app.SECONDS)
        stop.click()
    expect(page.locator(".st-key-search-open button:visible").first).to_be_visible(timeout=2 * app.SECONDS)
    settle(page)
    press(page, "search-open")
    heading(page, "Prune")
    assert asked(page) == expected(own)


def test_another_task_leaves_the_mask_and_the_settings(page: Page, url: str, root: Path, tmp_path: Path) -> None:
    own = subjects.own(root)
    open_prune(page, url, f"model={own.model}&task=int-sum&{SETTINGS}")
    matrix = by_hand(page, 1, 3)
    path = tmp_path / "sums.csv"
    path.write_text("prompt,answer\n" + "".join(f'"{a} + {b} ="," {a + b}"\n' for a in range(9) for b in range(5)))
    settings = {name: value for name, value in expected(own).items() if name != "task"}
    for change in ("give", "choose"):
        if change == "give":
            give_task(page, path)
        else:
            app.choose_task(page, "int-mult")
        assert chart.displayed_state(page, CHART)[matrix]["removed"] == [1, 3]
        assert {name: value for name, value in asked(page).items() if name != "task"} == settings
        press(page, "undo")
        removed(page, 1)
        press(page, "redo")
        removed(page, 2)
        assert {name: value for name, value in asked(page).items() if name != "task"} == settings


def test_a_box_leaves_the_other_points_in_their_colours(page: Page, url: str) -> None:
    open_prune(page, url)
    page.locator(".st-key-by_block label").click()
    settle(page)
    matrix = next(iter(chart.displayed_state(page, CHART)))
    chart.box_select(page, CHART, matrix, 3, 6)
    removed(page, 4)
    assert not any(chart.evaluate(page, CHART, "return gd._fullData.map((one) => Boolean(one.selectedpoints));"))


def test_a_task_of_ones_own_outlasts_reload_and_restart_and_is_asked_for_elsewhere(
    new_page: NewPage, streamlit_server: StartServer, tmp_path: Path
) -> None:
    first, second = app.folders(tmp_path / "first"), app.folders(tmp_path / "second")
    lines, other = tmp_path / subjects.NAME, tmp_path / "other.jsonl"
    lines.write_bytes(subjects.CONTENT)
    other.write_text("\n".join(json.dumps({"prompt": f"{a} x 3 =", "answer": f" {3 * a}"}) for a in range(30)))
    server = streamlit_server(APP, first)
    page = new_page()
    open_prune(page, server)
    give_task(page, lines)
    by_hand(page, 2)
    here = app.figures(page)
    page.reload()
    removed(page, 1)
    assert app.figures(page) == here
    link = page.url
    page.context.close()
    assert streamlit_server.stop(server)

    server = streamlit_server(APP, first)
    page = new_page()
    open_app(page, f"{server}/prune?{urlsplit(link).query}")
    removed(page, 1)
    assert app.figures(page) == here
    page.context.close()
    assert streamlit_server.stop(server)

    server = streamlit_server(APP, second)
    page = new_page()
    text = re.sub(r"session=\w+&?", "", urlsplit(link).query)
    open_app(page, f"{server}/prune?{text}")
    expect(page.get_by_text("which is not in this workspace")).to_be_visible(timeout=app.SECONDS)
    expect(page.locator(".st-key-metric-accuracy")).to_have_count(0)
    uploader = page.locator(".st-key-task-upload input[type=file]")
    uploader.set_input_files(other)
    expect(page.get_by_text("holds something else")).to_be_visible(timeout=app.SECONDS)
    expect(page.locator(".st-key-metric-accuracy")).to_have_count(0)
    uploader.set_input_files(lines)
    removed(page, 1)
    assert app.figures(page) == here
    press(page, "task-remove")
    expect(page.get_by_text("Choose a task file in the sidebar to go on.")).to_be_visible(timeout=app.SECONDS)
    removed(page, 1)
    assert not list((tmp_path / "second" / "workspace" / "tasks").glob("*.jsonl"))


def test_a_task_that_cannot_be_asked_says_so_on_every_card(page: Page, url: str) -> None:
    open_app(page, f"{url}/prune?task=ioi")
    heading(page, "Prune")
    for name in ("accuracy", "loss", "predicted"):
        expect(page.locator(f".st-key-metric-{name}")).to_contain_text("the tokenizer does not know")
    for title in ("Overview", "Scores"):
        go(page, title)
        expect(page.get_by_text(re.compile("measuring|Scoring|Measuring"))).to_have_count(0)
