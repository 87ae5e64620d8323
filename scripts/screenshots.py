"""Pictures of every page, to be looked at: light and dark, 1280x800 and 1920x1080, unpruned and pruned.

Pruned, the scores have been checked, a search has run, and the library holds masks. `make screenshots` writes them to
build/screenshots; with `ARGS=--readme` also the README's pictures.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import app
from tests.browser.conftest import ROOT, StartServer, launch

FOLDER = ROOT / "build" / "screenshots"
README = ROOT / "docs" / "images"
SIZES = ((1280, 800), (1920, 1080))
SCHEMES = ("light", "dark")
SEARCH_MS = 300_000


def main() -> None:
    """Start the app on the bundled model and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readme", action="store_true", help="also write docs/images")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        start = StartServer(lambda: Path(tempfile.mkdtemp(dir=name)))
        browser = launch(playwright)
        try:
            url = start(app.APP, app.folders(Path(name)))
            for size, scheme in product(SIZES, SCHEMES):
                for path in pictures(browser, url, size, scheme):
                    print(path.relative_to(ROOT))
            if options.readme:
                README.mkdir(parents=True, exist_ok=True)
                for title, size in (("prune", SIZES[0]), ("search", SIZES[1]), ("activations", SIZES[1])):
                    name = f"{title}-pruned-{size[0]}x{size[1]}-light.png"
                    print(shutil.copy(FOLDER / name, README / f"{title}.png"))
        finally:
            browser.close()
            start.stop_all()


def pictures(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Iterator[Path]:
    """Take a picture of each page, as far as the window shows it and in full, before and after pruning."""
    page = open_page(browser, url, size, scheme)
    for state in ("unpruned", "pruned"):
        if state == "pruned":
            app.go(page, "Prune")
            prune(page)
            work(page)
        for title in app.PAGES:
            app.go(page, title)
            page.wait_for_timeout(500)  # plots fade in
            name = f"{title.lower()}-{state}-{size[0]}x{size[1]}-{scheme}"
            yield save(page, FOLDER / f"{name}.png")
            page.set_viewport_size({"width": size[0], "height": height(page)})
            page.wait_for_timeout(500)
            yield save(page, FOLDER / f"{name}-full.png")
            page.set_viewport_size({"width": size[0], "height": size[1]})
    page.context.close()


def open_page(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Page:
    """A new session at the Prune page."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    app.open_prune(page, url)
    return page


def prune(page: Page) -> None:
    """Remove the lowest-scored values, as many as the page proposes, and measure the random control."""
    app.press(page, "remove-lowest")
    app.wait_for_removed(page, 4)
    if page.locator(".st-key-controls button:visible").count():
        app.press(page, "controls")
        app.settle(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)


def work(page: Page) -> None:
    """Keep the mask and a larger one, measure scores, search: what other sessions have done is there already."""
    for count in (9, 4):
        app.go(page, "Prune")
        page.locator(".st-key-k input").fill(str(count))
        page.keyboard.press("Enter")
        app.settle(page)
        app.press(page, "remove-lowest")
        app.wait_for_removed(page, count)
        app.go(page, "Masks")
        if page.locator(".st-key-save button:enabled").count():
            app.press(page, "save")
            app.settle(page)
    app.go(page, "Scores")
    app.press(page, "measure-these")
    app.settle(page)
    app.go(page, "Search")
    app.press(page, "search-start")
    page.locator(".st-key-search-open button").first.wait_for(timeout=SEARCH_MS)
    app.settle(page)
    page.mouse.move(0, 0)


def height(page: Page) -> int:
    """What the main part needs to be seen in full."""
    return int(page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight"))


def save(page: Page, path: Path) -> Path:
    """Write one picture."""
    page.screenshot(path=path)
    return path


if __name__ == "__main__":
    main()
