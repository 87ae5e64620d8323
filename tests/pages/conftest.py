"""Fixtures for tests of the pages: the app as AppTest runs it, in folders of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1.element_tree import Selectbox

from explorer.attribution import Scores
from explorer.attribution.effect_store import default_effects
from explorer.core.config import settings
from explorer.models import Model
from explorer.spectra.cache import SvdCache
from explorer.ui.components import painting
from explorer.ui.jobs import cached
from tests.pages.app import Engine


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """What app.py sets for its process is undone at the end."""
    before = os.environ.get("OMP_NUM_THREADS")
    yield
    if before is None:
        os.environ.pop("OMP_NUM_THREADS", None)


@pytest.fixture(scope="session", autouse=True)
def _one_scan() -> Iterator[None]:
    """Every run of an AppTest would look through all installed packages for Streamlit components."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


@pytest.fixture(autouse=True)
def _own_folders(isolated_folders: Path) -> Iterator[None]:
    """Cache and workspace of their own; the process-wide parts of the app are kept, since models load slowly."""
    yield
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest has no browser that needs time to draw."""
    monkeypatch.setattr(painting, "watched", lambda: False)


@pytest.fixture(autouse=True)
def _typed_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest's selectbox knows only options that are listed: one that was typed is sent as the browser sends it."""
    listed = Selectbox._widget_state

    def state(box: Selectbox[Any]) -> WidgetState:
        value = box.value
        if isinstance(value, str) and value not in box.options and box.format_func(value) not in box.options:
            return WidgetState(id=box.id, string_value=value)
        sent: WidgetState = listed.fget(box)  # type: ignore[attr-defined]
        return sent

    monkeypatch.setattr(Selectbox, "_widget_state", property(state))


@pytest.fixture(scope="session")
def engine(bundled: Model, svds: SvdCache) -> Engine:
    """The engine on the bundled model, on a view that no page uses."""
    return Engine(bundled.view(), svds)


@pytest.fixture(scope="session")
def scores(engine: Engine) -> Scores:
    """The bundled model's usual scores."""
    return engine.scores()


@pytest.fixture
def nothing_measured(isolated_folders: Path) -> Iterator[None]:
    """Exact effects of other tests are forgotten: on disk, and in the process's results."""
    default_effects(pytest.fail).clear()
    cached.effects_seen.clear()
    cached.runner.clear()
    yield
    settings.cache_clear()


@pytest.fixture
def empty_library(isolated_folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A workspace that no other test has saved masks in."""
    monkeypatch.setenv("EIGENPRUNE_WORKSPACE", str(tmp_path / "workspace"))
    settings.cache_clear()
    yield
    settings.cache_clear()
