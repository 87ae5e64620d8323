"""The main job in a real browser: prune by clicking, measure, save, restart, restore."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from explorer.masks.mask import load_mask
from explorer.models import Model
from explorer.spectra.cache import SvdCache
from tests.browser import app, chart
from tests.browser.app import (
    APP,
    CHART,
    cli_eval,
    download,
    figures,
    go,
    open_prune,
    press,
    settle,
    shown,
    upload,
)
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import NewPage, StartServer, open_app
from tests.browser.subjects import Subject

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journey")


@pytest.fixture(scope="module")
def url(streamlit_server: StartServer, root: Path) -> str:
    return streamlit_server(APP, app.folders(root))


def worst(page: Page) -> tuple[str, int]:
    """The matrix in the plot and its lowest-scored value, as the plot knows them."""
    matrix, index = chart.evaluate(
        page,
        CHART,
        """const trace = gd._fullData.find((one) => one.meta?.matrix);
        const scores = Array.from(trace.marker.color);
        return [trace.meta.matrix, scores.indexOf(Math.min(...scores))];""",
    )
    return str(matrix), int(index)


def test_prune_by_clicking_save_restart_restore(
    new_page: NewPage, streamlit_server: StartServer, tmp_path: Path
) -> None:
    first = streamlit_server(APP, app.folders(tmp_path / "first"))
    page = new_page()
    open_app(page, first)
    settle(page)
    go(page, "Prune")
    unpruned = figures(page)

    matrix, index = worst(page)
    chart.click_point(page, CHART, matrix, index)
    removed(page, 1)
    assert chart.displayed_state(page, CHART)[matrix]["removed"] == [index]
    clicked = download(page, tmp_path)
    assert [(one.matrix, one.index) for one in load_mask(clicked).removed] == [(matrix, index)]
    assert figures(page) == shown(cli_eval(clicked, tmp_path / "first"))
    assert figures(page)["loss"] != unpruned["loss"]

    press(page, "remove-lowest")
    removed(page, 4)
    saved = download(page, tmp_path)
    assert saved.name == "bundled-4-removed.mask.json"
    report = cli_eval(saved, tmp_path / "first")
    assert report["removed"] == 4
    pruned = figures(page)
    assert pruned == shown(report)
    assert unpruned == shown(report["baseline"])
    assert pruned["accuracy"] != unpruned["accuracy"]

    page.context.close()
    assert streamlit_server.stop(first)
    second = streamlit_server(APP, app.folders(tmp_path / "second"))
    page = new_page()
    open_prune(page, second)
    assert figures(page) == unpruned
    upload(page, saved)
    removed(page, 4)
    assert figures(page) == pruned
    assert download(page, tmp_path).read_bytes() == saved.read_bytes()


def test_a_reload_restores_the_mask(page: Page, url: str, subject: Subject) -> None:
    open_prune(page, url, subject.query)
    press(page, "remove-lowest")
    removed(page, 4)
    before = figures(page)
    assert "session=" in page.url
    page.reload()
    removed(page, 4)
    chart.graph(page, CHART).wait_for()
    assert figures(page) == before
    go(page, "Spectra")
    assert "session=" in page.url
    page.reload()
    removed(page, 4)


@pytest.mark.journey
def test_undo_redo_by_button_and_keyboard(page: Page, url: str, subject: Subject) -> None:
    open_prune(page, url, subject.query)
    start = figures(page)
    press(page, "remove-lowest")
    removed(page, 4)
    pruned = figures(page)
    press(page, "undo")
    removed(page, 0)
    assert figures(page) == start
    press(page, "redo")
    removed(page, 4)
    assert figures(page) == pruned
    page.get_by_role("heading", name="Prune", exact=True).click()
    page.keyboard.press("Control+z")
    removed(page, 0)
    page.keyboard.press("Control+y")
    removed(page, 4)
    assert figures(page) == pruned


def test_fast_clicks_are_all_kept(page: Page, url: str, subject: Subject) -> None:
    open_prune(page, url, subject.query)
    matrix, _ = worst(page)
    page.locator(".st-key-by_block label").click()
    settle(page)
    for index in range(8):
        chart.click_point(page, CHART, matrix, index)
    removed(page, 8)
    assert chart.displayed_state(page, CHART)[matrix]["removed"] == list(range(8))
    for index in range(0, 8, 2):
        chart.click_point(page, CHART, matrix, index)
    removed(page, 4)
    assert chart.displayed_state(page, CHART)[matrix]["removed"] == [1, 3, 5, 7]


def test_a_box_takes_what_it_encloses_and_its_figures_are_the_masks(
    page: Page, url: str, subject: Subject, tmp_path: Path, svds: SvdCache
) -> None:
    open_prune(page, url, subject.query)
    matrix, _ = worst(page)
    page.locator(".st-key-by_block label").click()
    settle(page)
    chart.box_select(page, CHART, matrix, 3, 6)
    removed(page, 4)
    assert chart.displayed_state(page, CHART)[matrix]["removed"] == [3, 4, 5, 6]
    mask = load_mask(download(page, tmp_path))
    assert [(one.matrix, one.index) for one in mask.removed] == [(matrix, index) for index in (3, 4, 5, 6)]
    assert figures(page) == shown(app.measured(subject.loaded(), mask, svds, subject.read()))


def test_bad_uploads_say_why_and_keep_the_mask(page: Page, url: str, tmp_path: Path) -> None:
    open_prune(page, url)
    press(page, "remove-lowest")
    removed(page, 4)
    before = figures(page)
    good = json.loads(download(page, tmp_path).read_text())
    foreign = {**good, "model": {**good["model"], "digest": "sha256:" + "0" * 64}}
    alert = page.locator("[data-testid=stSidebar] [data-testid=stAlert]")
    for name, content, reason in (
        ("broken.json", '{"format": "eigenprune-mask", "sch', "broken.json is not a usable mask file"),
        ("foreign.json", json.dumps(foreign), "the mask was made for"),
        (
            "![x](http://e.example/x.png).json",
            "[]",
            "![x](http:\u2060//e.example/x.png).json is not a usable mask file",
        ),
    ):
        path = tmp_path / name.replace("/", "_")
        path.write_text(content)
        upload(page, path)
        expect(alert).to_contain_text(reason.replace("/", "_"), timeout=app.SECONDS)
        expect(alert).to_contain_text("Your mask is as it was.")
        removed(page, 4)
        assert figures(page) == before
    assert page.locator("[data-testid=stSidebar] [data-testid=stAlert] img").count() == 0
    big = tmp_path / "big.json"
    big.write_bytes(b" " * 6_000_000)
    upload(page, big)
    expect(page.locator(".st-key-upload")).to_contain_text("must be 5.0MB or smaller")
    removed(page, 4)
    assert figures(page) == before
    press(page, "undo")
    expect(alert).to_have_count(0)


def test_two_browsers_do_not_disturb_each_other(
    new_page: NewPage, url: str, tmp_path: Path, bundled: Model, svds: SvdCache
) -> None:
    pages = [new_page(), new_page()]
    for one in pages:
        open_prune(one, url)
    counts = (2, 5)
    for one, count in zip(pages, counts, strict=True):
        box = one.locator(".st-key-k input")
        box.fill(str(count))
        box.press("Enter")
        expect(one.locator(".st-key-remove-lowest button:visible").first).to_have_text(f"Remove {count} lowest")
    for one in pages:  # at the same time
        press(one, "remove-lowest")
    found = []
    for one, count in zip(pages, counts, strict=True):
        removed(one, count)
        folder = tmp_path / str(count)
        folder.mkdir()
        mask = load_mask(download(one, folder))
        assert len(mask) == count
        found.append(figures(one))
        assert found[-1] == shown(app.measured(bundled, mask, svds))
    for one, count, before in zip(pages, counts, found, strict=True):
        one.reload()
        removed(one, count)
        assert figures(one) == before
