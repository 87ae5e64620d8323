"""Jobs of the pages go to the cluster that the settings name, and say what they say without."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from explorer.attribution.effect_store import default_effects
from explorer.attribution.exact import EffectsJob
from explorer.core.config import settings
from explorer.search import mask_cells
from explorer.ui.jobs import cached, cluster, searching
from tests.crew import pids
from tests.pages.app import captions, click, open_page, settled
from tests.pages.test_search import finished, finished_one, prepared, start


def effects() -> Any:
    """The measured effects of 30 values."""
    app = open_page("Scores")
    app.number_input(key="measure-count").set_value(30)
    app = click(settled(app.run()), "measure-these")
    found = next(one.value for one in app.dataframe if "exact_stderr" in one.value)
    return found["exact"].dropna().tolist()


def controls() -> Any:
    """What stands below the masks of the default control."""
    app = click(open_page("Prune"), "remove-lowest")
    found = captions(click(settled(app.run()), "controls"))
    assert "random-per-matrix: " in found
    return found


def along() -> Any:
    """The curve along the ranking."""
    app = open_page("Prune")
    app.toggle(key="curve").set_value(True)
    app = settled(app.run())
    (chart,) = (one for one in app.get("plotly_chart") if "curve-figure" in one.proto.id)
    return json.loads(chart.proto.spec)["data"]


def searched() -> Any:
    """The controls of a search."""
    finished(start(prepared()))
    found = finished_one().file
    assert found.controls
    return {name: one.as_dict() for name, one in found.controls.items()}


@pytest.fixture(scope="module", autouse=True)
def _ended() -> Iterator[None]:
    """The workers end with these tests."""
    cluster.workers.clear()
    yield
    cluster.workers.clear()


@pytest.fixture
def forget(nothing_measured: None) -> Iterator[Callable[[], None]]:
    """Nothing is known of before."""

    def forgotten() -> None:
        default_effects(pytest.fail).clear()
        cached.effects_seen.clear()
        cached.runner.clear()
        searching.searches.clear()

    yield forgotten
    forgotten()


def test_a_cluster_that_cannot_be_had_is_said_on_the_page(
    forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENPRUNE_CLUSTER", "ray://127.0.0.1:9")
    settings.cache_clear()
    app = click(open_page("Prune"), "remove-lowest")
    app = click(settled(app.run()), "controls")
    (said,) = (one.value for one in app.error)
    assert "the cluster ray://127.0.0.1:9 cannot be reached" in said.replace("\\", "")


@pytest.mark.parametrize("ask", [effects, controls, along, searched])
def test_workers_measure_what_the_page_says(
    ask: Callable[[], Any], forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ask()
    forget()

    def refuse(*given: Any, **options: Any) -> Any:
        raise AssertionError("measured by the page's own process")

    monkeypatch.setenv("EIGENPRUNE_CLUSTER", "local:2")
    settings.cache_clear()
    monkeypatch.setattr(mask_cells, "evaluate", refuse)
    monkeypatch.setattr(EffectsJob, "measured", refuse)
    assert ask() == here
    assert len(pids(os.getpid())) == 2
