"""Exact effects on disk: what comes back, what happens to broken files, several writers."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from explorer.attribution.effect_store import TABLES, EffectStore, default_effects
from explorer.core.config import settings

WRITER = """
import sys
from pathlib import Path
from explorer.attribution.effect_store import EffectStore
store = EffectStore(Path(sys.argv[1]), print)
for place in range(40):
    store.save({(sys.argv[2], place): (float(place), 0.5, 3)})
"""


def silent(message: str) -> None:
    raise AssertionError(message)


def test_entries_come_back_by_name_and_index(tmp_path: Path) -> None:
    store = EffectStore(tmp_path / "deep" / "effects.sqlite", silent)
    assert store.load("a") == {}
    assert not store.path.exists(), "looking makes no file"
    store.save({("a", 3): (0.1, 0.02, 6), ("a", 0): (-1e-300, 1e300, 6), ("b", 3): (2.0, math.nan, 1)})
    again = EffectStore(store.path, silent)
    assert again.load("a") == {3: (0.1, 0.02, 6), 0: (-1e-300, 1e300, 6)}
    effect, stderr, n = again.load("b")[3]
    assert (effect, n) == (2.0, 1)
    assert math.isnan(stderr)
    store.save({("a", 3): (0.2, 0.02, 6)})
    assert again.load("a")[3] == (0.2, 0.02, 6)
    assert len(store) == 3
    assert store.clear() == 3
    assert len(again) == 0


def test_a_group_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    told: list[str] = []
    store = EffectStore(tmp_path / "effects.sqlite", told.append)
    store.save({("a", 0): (1.0, 1.0, 2)})
    store.save({("a", 1): (1.0, 1.0, 2), ("a", 2): (None, 1.0, 2)})  # type: ignore[dict-item]
    assert len(told) == 1
    assert set(EffectStore(store.path, silent).load("a")) == {0}


@pytest.mark.parametrize("content", [b"not a database, but quite long enough to be one" * 100, b"SQLite format 3\0"])
def test_an_unusable_file_is_told_once_and_worked_without(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "effects.sqlite"
    path.write_bytes(content)
    told: list[str] = []
    store = EffectStore(path, told.append)
    assert store.load("a") == {}
    store.save({("a", 0): (1.0, 1.0, 2)})
    assert store.load("a") == {}
    assert (store.clear(), len(store)) == (0, 0)
    assert len(told) == 1
    assert "working without that file" in told[0]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[str] = []
    EffectStore(tmp_path / "file" / "effects.sqlite", told.append).save({("a", 0): (1.0, 1.0, 2)})
    assert len(told) == 1


@pytest.mark.slow
def test_several_processes_can_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "effects.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    store = EffectStore(path, silent)
    assert len(store) == 120
    assert all(set(store.load(name)) == set(range(40)) for name in "abc")


def test_the_default_file_is_in_the_cache_folder() -> None:
    assert default_effects(silent).path.parent == settings().cache_dir


def test_the_names_used_longest_ago_go_when_the_file_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**9, 10_000))
    monkeypatch.setattr("explorer.attribution.effect_store.time.time", lambda: float(next(clock)))
    store = EffectStore(tmp_path / "effects.sqlite", silent, limit=200_000)
    entry = (1.0, 0.5, 3)
    store.save({("first", place): entry for place in range(100)})
    store.save({("second", place): entry for place in range(100)})
    for number in range(40):
        assert len(store.load("first")) == 100, "a name that is looked up stays"
        store.save({(f"name {number:060}", place): entry for place in range(100)})
        assert store.info().bytes <= 200_000
    assert store.load("second") == {}
    assert len(store.load(f"name {39:060}")) == 100, "what was saved last is there"
    assert 0 < store.info().entries < 4200
    assert store.path.stat().st_size < 2 * 200_000, "freed pages are used again"


def test_a_single_name_beyond_the_limit_is_kept_whole(tmp_path: Path) -> None:
    store = EffectStore(tmp_path / "effects.sqlite", silent, limit=10_000)
    store.save({("a", place): (1.0, 0.5, 3) for place in range(2000)})
    assert len(store.load("a")) == 2000


def test_a_file_without_uses_is_read_and_grows_them(tmp_path: Path) -> None:
    path = tmp_path / "effects.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(TABLES[0])
        db.execute("INSERT INTO effects VALUES ('old', 1, 0.5, NULL, 3)")
    store = EffectStore(path, silent, limit=30_000)
    store.save({(f"new {number:060}", place): (1.0, 0.5, 3) for number in range(10) for place in range(100)})
    assert store.load("old") == {}, "a name whose use is not known counts as the oldest"
