"""`search` in a process that is killed with SIGKILL, several times, ends with the mask of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEARCH = (
    "search",
    "--model",
    "bundled",
    "--task",
    "int-mult",
    "--kinds",
    "Q,K",
    "--limit",
    "96",
    "--max-removed",
    "10",
)
CHECKS = ("--controls", "1", "--test-limit", "20", "--json")


def environment(cache: Path) -> dict[str, str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("EIGENPRUNE_", "PYTHON"))}
    return {**outer, "EIGENPRUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the code to work in: a search does not go on with other code than it began with."""
    shutil.copytree(ROOT / "explorer", tmp_path / "explorer", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)


def search(cache: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "explorer", *SEARCH, *CHECKS, *words]
    return subprocess.Popen(command, env=environment(cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(cache: Path, *words: str) -> tuple[Any, str]:
    with search(cache, *words) as process:
        stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    return json.loads(stdout), stderr


def recorded(cache: Path) -> int:
    path = cache / "searches.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=30)) as db:
        tables = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'records'").fetchone()[0]
        return int(db.execute("SELECT count(*) FROM records").fetchone()[0]) if tables else 0


def killed(cache: Path, answers: int, *words: str) -> None:
    """Run until so many answers are recorded, then kill without warning."""
    with search(cache, *words) as process:
        try:
            end = time.monotonic() + 100
            while recorded(cache) < answers:
                assert process.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < end
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "kills"), [("learned", (3, 6)), ("verified", (2, 4))])
def test_a_killed_search_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, strategy: str, kills: tuple[int, ...]
) -> None:
    whole, killed_often = tmp_path / "whole", tmp_path / "killed"
    words = ("--strategy", strategy, "--out", str(tmp_path / "whole.json"))
    expected, stderr = finished(whole, *words)
    assert "Resuming" not in stderr
    words = ("--strategy", strategy, "--out", str(tmp_path / "killed.json"))
    for answers in kills:
        killed(killed_often, answers, *words)
        assert not (tmp_path / "killed.json").exists()
    found, stderr = finished(killed_often, *words)
    assert "Resuming: " in stderr
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    for name in ("seconds", "out"):
        found.pop(name)
        expected.pop(name)
    assert found == expected
    assert len(found["curve"]) > 5
