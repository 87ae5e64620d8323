"""An explorer that strangers use: only the models that are offered, no path of the machine, nothing shared changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.core.config import settings
from explorer.core.errors import ExportError, MaskError, ModelError, SettingsError, TaskError
from explorer.core.files import typed_path
from explorer.export.run import check_place
from explorer.masks.apply import empty_mask
from explorer.masks.labels import DirectionLabel, LabelBook
from explorer.masks.library import Library
from explorer.models import Model, load
from explorer.tasks import load_task
from explorer.ui.shell.task_files import TaskFile, TaskFiles
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("EIGENPRUNE_READONLY", "1")
    monkeypatch.setenv("EIGENPRUNE_MODELS", "bundled, smollm2-135m")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.usefixtures("public")
def test_only_the_offered_models_open(tmp_path: Path) -> None:
    folder = str(tiny.save("gpt2", tmp_path / "mine"))
    for name in (folder, "org/model", "gemma3-270m", "~/x.gguf"):
        with pytest.raises(ModelError, match=r"is not offered here .*choose bundled, smollm2-135m"):
            load(name)
    assert load("bundled").source.name == "bundled"


@pytest.mark.usefixtures("public")
def test_no_path_of_the_machine_is_read(tmp_path: Path) -> None:
    file = tmp_path / "secret.jsonl"
    file.write_text('{"prompt": "a", "answer": " b"}\n' * 9)
    assert typed_path(str(file)) is None
    with pytest.raises(TaskError):
        load_task(str(file))


@pytest.mark.usefixtures("public")
def test_nothing_that_others_see_changes(model: Model, tmp_path: Path) -> None:
    library, mask = Library(tmp_path / "masks"), empty_mask(model)
    for change in (
        lambda: library.save(mask, "mine"),
        lambda: library.delete(["0" * 16]),
        lambda: library.restore(["0" * 16]),
        lambda: library.change("0" * 16, name="x"),
        lambda: LabelBook(tmp_path / "labels.json", model.digest).take_over(
            [DirectionLabel(matrix="L0.Q.H0", index=0, label="x")]
        ),
    ):
        with pytest.raises(MaskError, match="switched off in this explorer"):
            change()
    with pytest.raises(ExportError, match="switched off"):
        check_place(tmp_path / "out", force=False)
    with pytest.raises(OSError, match="read-only"):
        TaskFiles(tmp_path / "tasks").keep(TaskFile.held("a.jsonl", b"{}"))
    assert [one for one in tmp_path.rglob("*") if one.is_file() and one.name != ".lock"] == []


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_READONLY", "yes")
    settings.cache_clear()
    with pytest.raises(SettingsError, match="EIGENPRUNE_READONLY is 'yes'"):
        settings()
    monkeypatch.delenv("EIGENPRUNE_READONLY")
    settings.cache_clear()


def test_the_image_has_no_root_a_health_check_and_only_settings_that_there_are() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER explorer$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text
    assert "/_stcore/health" in text
    known = (ROOT / "explorer" / "core" / "config.py").read_text(encoding="utf-8")
    start = (ROOT / "deploy" / "start.sh").read_text(encoding="utf-8")
    for name in set(re.findall(r"EIGENPRUNE_[A-Z]+", text)):
        assert name in known or name in start
