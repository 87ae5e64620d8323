"""What a closed tab leaves behind: nothing, once it is clear that it does not come back."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import app, chart
from tests.browser.app import CHART, figures, open_prune, press
from tests.browser.app import wait_for_removed as removed
from tests.browser.conftest import ROOT, NewPage, StartServer, open_app

pytestmark = pytest.mark.browser

CLOSED_SECONDS = 4.0


class Counted:
    """A server that counts what its sessions hold."""

    def __init__(self, start: StartServer, folder: Path) -> None:
        shutil.copy(Path(__file__).with_name("census.py"), folder / "app.py")
        (folder / "pages").symlink_to(ROOT / "pages", target_is_directory=True)
        self._path = folder / "census.json"
        own = {"CENSUS": str(self._path), "EIGENPRUNE_CLOSED_SECONDS": str(CLOSED_SECONDS)}
        self.url = start(folder / "app.py", {**app.folders(folder), **own})

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._path.read_text())
        return found

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until a count is as it should be."""
        deadline = time.monotonic() + app.SECONDS / 1000
        while not condition(self.now()):
            assert time.monotonic() < deadline, self.now()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def counted(streamlit_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Counted:
    return Counted(streamlit_server, tmp_path_factory.mktemp("closing"))


def prune(page: Page, url: str, task: str, clicks: int) -> None:
    """Remove some values by hand."""
    open_app(page, f"{url}/prune?task={task}")
    app.settle(page)
    page.locator(".st-key-by_block label").click()
    app.settle(page)
    matrix = next(iter(chart.displayed_state(page, CHART)))
    for index in range(clicks):
        chart.click_point(page, CHART, matrix, index)
        removed(page, index + 1)


def test_closing_tabs_frees_all_that_only_they_held(new_page: NewPage, counted: Counted) -> None:
    stays = new_page()
    open_prune(stays, counted.url)
    press(stays, "remove-lowest")
    removed(stays, 4)
    before = counted.now()
    others = [new_page() for _ in range(2)]
    for number, page in enumerate(others):
        prune(page, counted.url, "int-sum", 2 + number)
    more = counted.now()
    assert more["Lines"] >= before["Lines"] + 2
    assert more["AppSession"] >= before["AppSession"] + 2
    assert len(more["results"]) > len(before["results"])
    for page in others:
        page.context.close()
    counted.wait(lambda now: now["Lines"] <= before["Lines"])
    counted.wait(lambda now: set(now["results"]) - {"scores"} == set(before["results"]) - {"scores"})
    press(stays, "undo")  # the one that is still here has lost nothing
    removed(stays, 0)
    press(stays, "redo")
    removed(stays, 4)

    stays.context.close()
    counted.wait(lambda now: not (now["Lines"] or now["Bench"]))
    assert counted.now()["AppSession"] <= 1  # Streamlit's loop names the last one until there is another
    assert set(counted.now()["results"]) <= {"model", "scores"}
    again = new_page()
    open_prune(again, counted.url)
    expect(again.locator(".st-key-mask-state")).to_contain_text("0 removed")


def test_a_tab_that_comes_back_in_time_finds_all_as_it_was(new_page: NewPage, counted: Counted) -> None:
    page = new_page()
    prune(page, counted.url, "int-mult", 2)
    results, before = set(counted.now()["results"]), figures(page)
    page.reload()
    removed(page, 2)
    counted.wait(lambda now: now["Lines"] == 1)  # the tab before the reload is gone
    assert set(counted.now()["results"]) == results
    page.reload()
    removed(page, 2)
    assert figures(page) == before


def test_the_long_job_of_a_closed_tab_is_stopped(new_page: NewPage, counted: Counted) -> None:
    page = new_page()
    open_app(page, f"{counted.url}/scores?task=int-sum")
    app.settle(page)
    box = page.locator("[class*=st-key-measure-count] input")
    box.fill("500")
    box.press("Enter")
    press(page, "measure-these")
    counted.wait(lambda now: "effects" in now["running"])
    page.context.close()
    time.sleep(CLOSED_SECONDS / 2)
    assert "effects" in counted.now()["running"]  # it may still come back
    counted.wait(lambda now: not now["running"])
    assert "effects" not in counted.now()["results"]
