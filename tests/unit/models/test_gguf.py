"""GGUF files: found by content, converted once, refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from explorer.errors import ModelError
from explorer.files import file_digest
from explorer.models import gguf, load
from tests import tiny

HEADER = b"GGUF\x03\x00\x00\x00"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really converted; the conversion itself writes a tiny model."""
    seen: list[Path] = []

    def write(path: Path, folder: Path, progress: object) -> None:
        seen.append(path)
        tiny.save("llama", folder)

    monkeypatch.setattr(gguf, "_write", write)
    return seen


def test_a_file_is_converted_once_and_found_by_content(
    tmp_path: Path, own_folders: Path, conversions: list[Path]
) -> None:
    first, copy = tmp_path / "a.gguf", tmp_path / "b.gguf"
    first.write_bytes(HEADER + b"one")
    shutil.copy(first, copy)
    told: list[float] = []
    folder = gguf.converted(first, tmp_path / "models", lambda done, total: told.append(done / total))
    assert gguf.converted(copy, tmp_path / "models") == folder
    assert conversions == [first]
    record = json.loads((folder / "source.json").read_text())
    assert record == {"origin": "a.gguf", "revision": file_digest(first)}
    assert told == sorted(told)
    copy.write_bytes(HEADER + b"two")
    assert gguf.converted(copy, tmp_path / "models") != folder
    assert conversions == [first, copy]


def test_a_converted_file_loads_like_a_folder(tmp_path: Path, conversions: list[Path]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HEADER + b"to load")
    model = load(str(path))
    assert (model.architecture, model.source.name, model.source.origin) == ("LlamaForCausalLM", str(path), str(path))
    assert load(str(path)).digest == model.digest
    assert len(conversions) == 1


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a zip", b"version https://git-lfs"])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"is not a GGUF file \(it does not begin with GGUF\): check the download"):
        load(str(path))


def test_a_damaged_file_is_refused_and_leaves_nothing(tmp_path: Path, own_folders: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HEADER + b"\x00" * 40)
    before = sorted((own_folders / "cache" / "models").glob("[!.]*"))
    with pytest.raises(ModelError, match=r"cannot be converted \(.*\): check that it is a complete causal LM file"):
        load(str(path))
    assert sorted((own_folders / "cache" / "models").glob("[!.]*")) == before
    assert not list((own_folders / "cache" / "models").glob(".gguf-*-*"))


def test_a_folder_called_gguf_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").mkdir()
    with pytest.raises(ModelError, match="there is no file"):
        load(str(tmp_path / "model.gguf"))
