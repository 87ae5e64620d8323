"""Bundles opened from disk in a real browser: all is drawn, nothing is asked for elsewhere, and keys reach it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.commands import run

REPORT = Path(__file__).parents[1] / "data" / "search-report.json"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1920])
def test_a_bundle_opens_from_disk(browser: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    assert run("report", REPORT, "--bundle", tmp_path / "out").exit_code == 0
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 1080 if width == 1920 else 800})
    asked: list[str] = []
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "out" / "index.html").as_uri())
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    assert {url.split(":")[0] for url in asked} <= {"file", "blob", "data"}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (ink, paper) != ("rgb(26, 26, 26)", "rgb(255, 255, 255)") or scheme == "light"
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("group", name="Loss").count() + page.get_by_role("group").count() > 0
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href')") == "mask.json":
            break
    else:
        raise AssertionError("Tab does not reach the files")
    assert problems == []
    page.screenshot(path=str(tmp_path / f"{scheme}-{width}.png"), full_page=True)
    page.close()
