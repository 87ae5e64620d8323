"""Task files in the workspace: kept whole, by content, under safe names, within bounds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from explorer.core.errors import TaskError
from explorer.ui.shell.task_files import ID_LETTERS, TaskFile, TaskFiles, safe_name


@pytest.fixture
def files(tmp_path: Path) -> TaskFiles:
    return TaskFiles(tmp_path / "tasks", most_files=3, most_bytes=100)


def keep(files: TaskFiles, name: str, content: bytes, age: int = 0) -> TaskFile:
    """Keep a file that is `age` seconds old."""
    file = TaskFile.held(name, content)
    files.keep(file)
    path = files.folder / f"{file.id}~{file.name}"
    time = path.stat().st_mtime - age
    os.utime(path, (time, time))
    return file


def test_a_file_is_found_again_by_its_content(files: TaskFiles) -> None:
    file = keep(files, "mine.jsonl", b"one")
    assert file.id == hashlib.sha256(b"one").hexdigest()[:ID_LETTERS]
    (found,) = TaskFiles(files.folder).every()
    assert (found, found.read()) == (file, b"one")
    assert not [path for path in files.folder.iterdir() if path.name.endswith(".tmp")]


def test_equal_contents_are_one_file_with_the_last_name(files: TaskFiles) -> None:
    keep(files, "a.jsonl", b"one", age=10)
    keep(files, "b.csv", b"one")
    assert [file.name for file in files.every()] == ["b.csv"]


def test_the_oldest_go_beyond_the_bounds(files: TaskFiles) -> None:
    for age, name in ((40, "a"), (30, "b"), (20, "c"), (10, "d")):
        keep(files, f"{name}.jsonl", name.encode(), age)
    keep(files, "e.jsonl", b"e")
    assert [file.name for file in files.every()] == ["e.jsonl", "d.jsonl", "c.jsonl"]
    keep(files, "f.jsonl", b"x" * 99)
    assert [file.name for file in files.every()] == ["f.jsonl", "e.jsonl"]
    keep(files, "g.jsonl", b"y" * 1000)  # too large for the bound, but what was just given stays
    assert [file.name for file in files.every()] == ["g.jsonl"]


def test_a_file_can_be_removed_and_is_missed(files: TaskFiles) -> None:
    file = keep(files, "a.jsonl", b"one")
    (found,) = files.every()
    files.remove(file.id)
    files.remove(file.id)
    assert files.every() == ()
    with pytest.raises(TaskError, match=r"a\.jsonl is not in the workspace any more .*: upload it again"):
        found.read()


def test_a_changed_file_is_refused(files: TaskFiles) -> None:
    keep(files, "a.jsonl", b"one")
    (found,) = files.every()
    assert found.path is not None
    found.path.write_bytes(b"two")
    with pytest.raises(TaskError, match="was changed in the workspace"):
        found.read()


def test_other_things_in_the_folder_are_no_task_files(files: TaskFiles) -> None:
    files.folder.mkdir()
    for name in ("notes.txt", "0123~x.jsonl", f"{'0' * ID_LETTERS}~.x.jsonl", f".{'0' * ID_LETTERS}~x.jsonl.tmp"):
        (files.folder / name).write_text("x")
    assert files.every() == ()


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("lines.jsonl", "lines.jsonl"),
        ("My task (2).CSV", "My task (2).csv"),
        ("../../etc/passwd", "passwd.jsonl"),
        ("C:\\x\\y.csv", "y.csv"),
        ("![x](http://e.example/x.png).jsonl", "x.png).jsonl"),
        ("..", "task.jsonl"),
        ("", "task.jsonl"),
        (".jsonl", "jsonl.jsonl"),
        ("a~b\x00\n.jsonl", "a-b.jsonl"),
        ("задача.jsonl", "задача.jsonl"),
        ("x" * 500 + ".csv", "x" * 120 + ".csv"),
        ("é" * 500 + ".csv", "é" * 60 + ".csv"),
    ],
)
def test_names_are_safe(given: str, safe: str) -> None:
    assert safe_name(given) == safe
    assert safe_name(safe) == safe
