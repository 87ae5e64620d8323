"""The models that this machine has loaded, on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.core.config import settings
from explorer.ui.session import used_models


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("EIGENPRUNE_WORKSPACE", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_only_what_was_noted_is_known() -> None:
    assert not used_models.known("/etc")
    used_models.note("/models/a")
    used_models.note("org/b")
    assert [used_models.known(name) for name in ("/models/a", "org/b", "/models", "org/b@main")] == [True, True] + 2 * [
        False
    ]


def test_the_latest_are_kept() -> None:
    for i in range(used_models.KEPT + 3):
        used_models.note(f"m{i}")
    used_models.note("m5")
    assert not used_models.known("m2")
    assert used_models.known("m3")
    assert used_models.known("m5")


@pytest.mark.parametrize("content", ["", "{", "{}", "[1, null]", '"a"'])
def test_a_damaged_file_knows_nothing_and_is_written_anew(workspace: Path, content: str) -> None:
    (workspace / "models.json").write_text(content)
    assert not used_models.known("a")
    used_models.note("a")
    assert used_models.known("a")
