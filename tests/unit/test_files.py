"""Files are whole or absent, whatever goes wrong in between."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from explorer.core.errors import ExplorerError
from explorer.core.files import (
    CHUNK,
    digest,
    file_digest,
    ordinary,
    replacing,
    sweep,
    typed_path,
    write_json,
    write_text,
)
from explorer.experiments.reproduce.recipe import read_recipe
from explorer.masks.mask import load_mask
from explorer.measure.perplexity import read_text
from explorer.search.report_file import load_report
from explorer.tasks import load_task


def test_a_new_file_appears_with_its_parents_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "grün\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "grün\n".encode()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.txt"]


def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_json(path, {"old": 1})

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, {"set": {1, 2}})
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_a_file_without_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seen.txt"
    write_text(path, "old")
    seen: list[tuple[str, str]] = []
    replace: Callable[..., None] = os.replace

    def watch(source: Path, target: Path) -> None:
        seen.append((path.read_text(), Path(source).read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_text(path, "new")
    assert seen == [("old", "new")]
    assert path.read_text() == "new"


def test_files_have_the_rights_that_the_user_gives_new_files(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_text(tmp_path / "ours", "text")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "ours")}
    assert len(modes) == 1


def test_the_digest_is_that_of_the_concatenation(tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK + 17)
    expected = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert digest([content[:5], memoryview(content)[5:]]) == expected
    (tmp_path / "file").write_bytes(content)
    sizes: list[int] = []
    assert file_digest(tmp_path / "file", sizes.append) == expected
    assert sizes == [CHUNK, CHUNK, 17]
    assert file_digest(tmp_path / "file") == expected


def test_typed_paths_expand_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert typed_path("~/model") == tmp_path / "model"


@pytest.mark.parametrize("text", ["a" * 5000, "~nobody-of-this-name/model"])
def test_what_no_file_can_be_called_is_no_path(text: str) -> None:
    assert typed_path(text) is None


def test_what_killed_processes_left_goes_when_a_folder_is_first_written_to(tmp_path: Path) -> None:
    left, fresh = tmp_path / f".mask.json.{'0' * 16}.tmp", tmp_path / f".mask.json.{'1' * 16}.tmp"
    others = [tmp_path / name for name in (".tmp", "a.tmp", ".a.tmp", f".{'2' * 16}.tmp.txt", ".a.0123.tmp")]
    for path in (left, fresh, *others):
        path.write_text("half")
    for path in (left, *others):
        os.utime(path, (0, 0))
    write_text(tmp_path / "mask.json", "whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "mask.json", fresh, *others}
    assert sweep(tmp_path, seconds=-1.0) == 1
    assert not fresh.exists()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "mask": ("a.mask.json", load_mask),
    "task": ("a.jsonl", lambda path: load_task(str(path), 0)),
    "table": ("a.csv", lambda path: load_task(str(path), 0)),
    "text": ("a.txt", read_text),
    "recipe": ("a.toml", read_recipe),
    "report": ("report.json", load_report),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [_pipe, _endless])
@pytest.mark.parametrize("reader", READERS)
def test_pipes_and_devices_are_refused_unopened(tmp_path: Path, reader: str, make: Callable[[Path], None]) -> None:
    name, read = READERS[reader]
    make(tmp_path / name)
    with pytest.raises(ExplorerError, match=r"cannot be read .*it is no ordinary file"):
        read(tmp_path / name)


@pytest.mark.timeout(20)
def test_a_data_folder_of_pipes_is_refused_unopened(tmp_path: Path) -> None:
    (tmp_path / "CB").mkdir()
    for split in ("train", "validation", "val"):
        os.mkfifo(tmp_path / "CB" / f"{split}.jsonl")
    with pytest.raises(ExplorerError, match=r"train\.jsonl"):
        load_task("cb", 0, data=tmp_path)


def test_files_and_links_to_them_are_ordinary(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").symlink_to("a")
    assert ordinary(tmp_path / "b").read_text() == "x"
    with pytest.raises(FileNotFoundError):
        ordinary(tmp_path / "c")
