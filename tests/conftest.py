"""Fixtures for all tests: folders of one's own, tiny random models, the bundled model, SmolLM2-135M.

Shapes are checked while tests run: see `--jaxtyping-packages` in pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from explorer.core.config import settings
from explorer.models import Model, View, fetch, load
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain, tiny

# The same cases in every run, for as long as a busy machine takes.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None)
hypothesis.settings.load_profile("suite")
TESTS = Path(__file__).parent
LONGEST_FIRST = ("browser", "integration", "pages", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything but the unit tests, and of the rest one journey per page, belongs to the slow tier.

    Rooms with the longest files come first, so that no worker is left alone with one of them at the end.
    """
    for item in items:
        if _room(item) != "unit" and item.get_closest_marker("journey") is None:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONGEST_FIRST.index(_room(item)))


def _room(item: pytest.Item) -> str:
    """`browser`, `integration`, `pages` or `unit`."""
    return item.path.relative_to(TESTS).parts[0]


@pytest.fixture(scope="session")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root for cache and workspace that this test session has for itself."""
    return tmp_path_factory.mktemp("eigenprune")


@pytest.fixture
def isolated_folders(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The settings of this test keep everything under `own_folders`."""
    monkeypatch.setenv("EIGENPRUNE_CACHE", str(own_folders / "cache"))
    monkeypatch.setenv("EIGENPRUNE_WORKSPACE", str(own_folders / "workspace"))
    settings.cache_clear()
    yield own_folders
    settings.cache_clear()


@pytest.fixture(scope="session", params=tiny.ARCHITECTURES)
def arch(request: pytest.FixtureRequest) -> str:
    """Runs a test once per architecture."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def folder(arch: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a Hugging Face folder."""
    return tiny.save(arch, tmp_path_factory.mktemp(arch))


@pytest.fixture(scope="session")
def model(folder: Path) -> Model:
    """The tiny model in float32."""
    return load(str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def model64(folder: Path) -> Model:
    """The tiny model in float64."""
    return load(str(folder), dtype="float64", device="cpu")


@pytest.fixture
def view(model: Model) -> View:
    """A fresh view in float32."""
    return model.view()


@pytest.fixture
def view64(model64: Model) -> View:
    """A fresh view in float64."""
    return model64.view()


@pytest.fixture(scope="session")
def plain64(folder: Path) -> torch.nn.Module:
    """The tiny model in float64 as plain transformers loads it."""
    return plain.load_plain(folder, torch.float64)


@pytest.fixture(scope="session")
def svds() -> SvdCache:
    """Decompositions in memory only."""
    return SvdCache(None)


@pytest.fixture(scope="session")
def tiny_task() -> Task:
    """Examples of several lengths in the tiny models' words."""
    return tiny.task()


@pytest.fixture(scope="session")
def bundled() -> Model:
    """The bundled model."""
    return load("bundled", dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def smollm2() -> Model:
    """SmolLM2-135M in the user's own cache (or EIGENPRUNE_CACHE), fetched if it is not there; never skipped."""
    fetch("smollm2-135m")
    return load("smollm2-135m", dtype="float32", device="cpu")
