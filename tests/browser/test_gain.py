"""The gain slider in a real browser: the figures are the command line's for the exported mask, the plot says scaled."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from explorer.masks.mask import load_mask
from tests.browser import app, chart
from tests.browser.app import APP, CHART, cli_eval, download, figures, open_prune, press, settle, shown
from tests.browser.conftest import StartServer

pytestmark = pytest.mark.browser
STEPS = 10  # of 5 % each


def wait_for_state(page: Page, state: str) -> None:
    expect(page.locator(".st-key-mask-state")).to_contain_text(f"4 {state}", timeout=app.SECONDS)
    settle(page)


def slide(page: Page, key: str, times: int) -> None:
    page.locator(".st-key-gain input[type=range]").focus()
    for _ in range(times):
        page.keyboard.press(key)


def hollow(page: Page) -> set[bool]:
    """Whether the chosen points are hollow: removed ones are, scaled ones have a dot."""
    state = chart.displayed_state(page, CHART)
    chosen = [(matrix, index) for matrix, one in state.items() for index in one["removed"]]
    assert chosen
    return {chart.drawn_hollow(page, CHART, matrix, index) for matrix, index in chosen}


def test_the_figures_are_the_commands_and_the_plot_says_scaled(
    page: Page, streamlit_server: StartServer, tmp_path: Path
) -> None:
    open_prune(page, streamlit_server(APP, app.folders(tmp_path)))
    press(page, "remove-lowest")
    wait_for_state(page, "removed")
    pruned, legend = figures(page), page.locator(f".st-key-{CHART} .spectrum-chart__key")
    expect(legend).to_contain_text("removed")
    assert hollow(page) == {True}

    slide(page, "ArrowRight", STEPS)
    wait_for_state(page, "scaled to 50 %")
    saved = download(page, tmp_path)
    assert saved.name == "bundled-4-scaled-0.5.mask.json"
    assert load_mask(saved).gain == 0.5
    assert figures(page) == shown(cli_eval(saved, tmp_path))
    assert figures(page)["loss"] != pruned["loss"]
    expect(legend).to_contain_text("scaled to 50 %")
    expect(legend).not_to_contain_text("removed")
    assert hollow(page) == {False}
    assert "Enter or Space scales or restores one" in str(
        page.locator(f".st-key-{CHART} [role=application]").get_attribute("aria-label")
    )

    slide(page, "ArrowLeft", STEPS)
    wait_for_state(page, "removed")
    assert figures(page) == pruned
    expect(legend).to_contain_text("removed")
    assert hollow(page) == {True}
