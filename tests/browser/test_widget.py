"""The clickable plot in a real JupyterLab: a click changes the widget's mask and what is measured with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from playwright.sync_api import Page

from explorer.masks.apply import apply
from explorer.masks.mask import Mask, load_mask
from explorer.measure.evaluate import evaluate
from explorer.models import Model, load
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task
from tests.browser import chart
from tests.browser.conftest import ROOT, _free_port

SECONDS = 120
CODE = """
import explorer as ep
from pathlib import Path

model, task = ep.load("bundled"), ep.load_task("int-mult")
widget = ep.widget.prune(model, task, "L0.K.H3", "L0.Q.H3", limit=40)

def changed(change):
    change["new"].save("now.json")
    accuracy = widget.comparison.masked.accuracy
    Path("said.txt").write_text(f"{len(widget.history)} {accuracy!r} {widget.comparison.baseline.accuracy!r}")

widget.observe(changed, "mask")
widget
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A JupyterLab on a folder with one notebook."""
    folder, port = tmp_path_factory.mktemp("lab"), _free_port()
    made: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, folder / "plot.ipynb")
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token=", "--ip=127.0.0.1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            wait(lambda: served(f"{url}/api"))
            yield url, folder
        finally:
            process.terminate()
            process.wait(20)


def served(url: str) -> bool:
    try:
        with urlopen(url) as answer:
            return bool(answer.status == 200)
    except URLError:
        return False


def wait(true: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def said(folder: Path) -> tuple[Mask, list[str]]:
    return load_mask(folder / "now.json"), (folder / "said.txt").read_text().split()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_click_changes_the_mask_and_the_accuracy(page: Page, lab: tuple[str, Path], theme: str) -> None:
    url, folder = lab
    for name in ("now.json", "said.txt"):
        (folder / name).unlink(missing_ok=True)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{url}/lab/tree/plot.ipynb?reset")
    page.locator(".jp-Notebook .jp-CodeCell").wait_for(timeout=SECONDS * 1000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=SECONDS * 1000)  # what is run before is lost
    if theme == "dark":
        page.get_by_role("menuitem", name="Settings").click()
        page.get_by_text("Theme", exact=True).hover()
        page.get_by_text("JupyterLab Dark", exact=True).click()
    page.get_by_role("menuitem", name="Run").click()
    page.get_by_text("Run All Cells", exact=True).click()
    host = page.locator("[data-testid=spectrum-chart][data-ready]")
    host.wait_for(timeout=SECONDS * 1000)
    key = host.get_attribute("data-chart-key")
    assert key is not None
    chart.click_point(page, key, "L0.K.H3", 0)
    wait(lambda: (folder / "said.txt").is_file())
    mask, (steps, masked, plain) = said(folder)
    assert [(one.matrix, one.index) for one in mask.removed] == [("L0.K.H3", 0)]
    assert mask.removed[0].c != 0
    assert steps == "2"
    assert (float(masked), float(plain)) == measured(mask)
    assert float(masked) != float(plain)
    page.locator(".eigenprune-widget td", has_text=f"{100 * float(masked):.1f} %").first.wait_for()
    page.screenshot(path=str(folder / f"{theme}.png"))
    (folder / "said.txt").unlink()
    page.keyboard.press("Tab")
    host.focus()
    page.keyboard.press("Enter")  # the cursor is where the click was
    wait(lambda: (folder / "said.txt").is_file())
    assert len(said(folder)[0]) == 0
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == 1  # JupyterLab's own keys did nothing


def measured(mask: Mask) -> tuple[float, float]:
    """The accuracy with the mask and without, by the engine."""
    model: Model = load("bundled")
    view, svds, task = model.view(), SvdCache(None), load_task("int-mult")
    plain = evaluate(view, task, "test", limit=40).accuracy
    apply(view, mask, svds)
    return evaluate(view, task, "test", limit=40).accuracy, plain
