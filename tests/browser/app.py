"""Drive the app in a real browser: pages, figures, mask file; and the command line to compare with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.evaluate import evaluate
from explorer.models import Model
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task, load_task
from explorer.ui.components import words
from explorer.ui.shell.task_choice import UPLOADED
from tests.browser import chart
from tests.browser.conftest import ROOT, open_app, wait_until_idle

APP = ROOT / "app.py"
PAGES = ("Overview", "Prune", "Scores", "Search", "Spectra", "Direction", "Activations", "Try it", "Masks")
CHART = "prune-chart"
SECONDS = 60_000


def folders(root: Path) -> dict[str, str]:
    """Environment of a server or a command that keeps everything under `root`."""
    return {"EIGENPRUNE_CACHE": str(root / "cache"), "EIGENPRUNE_WORKSPACE": str(root / "workspace")}


def settle(page: Page) -> None:
    """Wait until no script runs and no progress bar is left."""
    for _ in range(3):  # a finished job reruns the page
        expect(page.locator("[data-testid=stProgress]")).to_have_count(0, timeout=SECONDS)
        page.wait_for_timeout(150)
        wait_until_idle(page, SECONDS)


def go(page: Page, title: str) -> None:
    """Open a page from the sidebar and wait until it is complete."""
    page.locator("[data-testid=stSidebarNav]").get_by_role("link", name=title, exact=True).click()
    heading = "Eigenpruning" if title == "Overview" else title
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=SECONDS)
    settle(page)


def open_prune(page: Page, url: str, query: str = "") -> None:
    """Open the app at its Prune page by a deep link, and wait until it is complete."""
    open_app(page, f"{url}/prune?{query}")
    expect(page.get_by_role("heading", name="Prune", exact=True)).to_be_visible(timeout=SECONDS)
    settle(page)
    chart.graph(page, CHART).wait_for()


def figure(page: Page, name: str) -> str:
    """A metric's value: "predicted", "accuracy", "loss" or "control"."""
    return page.locator(f".st-key-metric-{name} [data-testid=stMetricValue]").inner_text().strip()


def wait_for_removed(page: Page, count: int) -> None:
    """Wait until the sidebar says how many values are removed, and the page is complete."""
    expect(page.locator(".st-key-mask-state")).to_contain_text(re.compile(rf"^{count:,} removed"), timeout=SECONDS)
    settle(page)


def choose_task(page: Page, name: str) -> None:
    """Choose a task in the sidebar by what the box calls it."""
    box = page.locator(".st-key-task input")
    box.fill(name)
    page.get_by_role("option", name=name, exact=True).first.click()
    page.wait_for_timeout(300)
    settle(page)


def give_task(page: Page, path: Path) -> None:
    """Choose a task file of one's own."""
    choose_task(page, UPLOADED)
    page.locator(".st-key-task-upload input[type=file]").set_input_files(path)
    expect(page.locator(".st-key-task input")).to_have_value(path.name, timeout=SECONDS)
    settle(page)


def press(page: Page, key: str) -> None:
    """Click the button with this key."""
    page.locator(f".st-key-{key} button:visible").first.click()


def download(page: Page, folder: Path) -> Path:
    """Download the mask under the name that the page proposes."""
    with page.expect_download() as found:
        press(page, "download")
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path


def upload(page: Page, path: Path) -> None:
    """Upload a mask file."""
    page.locator(".st-key-upload input[type=file]").set_input_files(path)


def cli_eval(mask: Path, root: Path, split: str = "validation") -> dict[str, Any]:
    """What the command line says about a mask file."""
    command = [sys.executable, "-m", "explorer", "eval", "--model", "bundled", "--task", "int-mult"]
    result = subprocess.run(
        [*command, "--mask", str(mask), "--split", split, "--json"],
        cwd=ROOT,
        env={**os.environ, **folders(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def measured(model: Model, mask: Mask, svds: SvdCache, task: str | Task = "int-mult") -> dict[str, Any]:
    """The mask on the validation split, without the app."""
    view = model.view()
    apply(view, mask, svds)
    return evaluate(view, load_task(task) if isinstance(task, str) else task, "validation").as_dict()


def shown(report: dict[str, Any]) -> dict[str, str]:
    """Accuracy and loss of a report as the page writes them."""
    return {"accuracy": words.percent(report["accuracy"]), "loss": f"{report['loss']:.3f} nats"}


def figures(page: Page) -> dict[str, str]:
    """Accuracy and loss as the page shows them once the whole split has been measured."""
    for name in ("accuracy", "loss"):
        card = page.locator(f".st-key-metric-{name}")
        expect(card).not_to_contain_text(re.compile("…|so far|live sample"), timeout=SECONDS)
    return {name: figure(page, name) for name in ("accuracy", "loss")}
