"""Exact effects on disk: what was measured once is not measured again, and a killed run goes on where it was.

One SQLite file. An entry is found by a name that says everything the effect depends on (`explorer.attribution.exact`
makes it from digests of content) and by the value's index. Entries appear in whole groups: a group that was being
written when the process died is absent. Several processes may share the file. The names used longest ago go when the
file grows beyond its limit.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.core.config import settings
from explorer.core.sqlite import Notify, SqliteFile, used_bytes

NAME = "effects.sqlite"
SHARE = 0.05  # of the cache folder's limit
KEPT = 0.8  # of this file's limit, once names have to go
SAME_USE_SECONDS = 3600.0  # uses closer together are one use, so that looking up hardly ever writes
TABLES = (
    "CREATE TABLE IF NOT EXISTS effects (name TEXT, place INTEGER, effect REAL NOT NULL, stderr REAL, "
    "n INTEGER NOT NULL, PRIMARY KEY (name, place)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS uses (name TEXT PRIMARY KEY, used REAL NOT NULL) WITHOUT ROWID",
)
Entry = tuple[float, float, int]  # mean change of the loss (nats per example), its standard error, examples


@dataclass(frozen=True)
class EffectInfo:
    """What the file holds; sizes in bytes."""

    entries: int
    bytes: int
    limit: int


class EffectStore:
    """A file of exact effects.

    Args:
        path: the file; made with its folder when the first entries are saved.
        notify: told in one sentence, once, that the file cannot be used; work goes on without it.
        limit: bytes that the entries may take; None for no limit.
    """

    def __init__(self, path: Path, notify: Notify, limit: int | None = None) -> None:
        self.path = path
        self.limit = limit
        self._file = SqliteFile(path, TABLES, "Exact effects", notify=notify)

    def load(self, name: str) -> dict[int, Entry]:
        """All entries under a name, by index."""

        def read(db: sqlite3.Connection) -> list[Any]:
            found = db.execute("SELECT place, effect, stderr, n FROM effects WHERE name = ?", (name,)).fetchall()
            if found:
                _mark(db, [name])
            return found

        rows: list[Any] = self._file.work(read, default=[])
        return {place: (effect, math.nan if stderr is None else stderr, n) for place, effect, stderr, n in rows}

    def save(self, entries: Mapping[tuple[str, int], Entry]) -> None:
        """Save entries by (name, index), all or none of them."""
        rows = [(name, place, *entry) for (name, place), entry in entries.items()]  # SQLite keeps a NaN as NULL

        def write(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO effects VALUES (?, ?, ?, ?, ?)", rows)
            _mark(db, {name for name, _ in entries})
            self._evict(db, {name for name, _ in entries})

        self._file.work(write, default=None, create=True)

    def __len__(self) -> int:
        """Number of entries."""
        count: int = self._file.work(lambda db: db.execute("SELECT count(*) FROM effects").fetchone()[0], default=0)
        return count

    def info(self) -> EffectInfo:
        """How many entries there are, and how much room they take and may take."""
        return EffectInfo(len(self), self._file.work(used_bytes, default=0), self.limit or 0)

    def clear(self) -> int:
        """Remove all entries and give their space back; returns how many there were."""
        count = len(self)
        self._file.work(lambda db: db.executescript("DELETE FROM effects; DELETE FROM uses;"), default=None)
        self._file.vacuum()
        return count

    def _evict(self, db: sqlite3.Connection, keep: set[str]) -> None:
        """Remove the names used longest ago, but not `keep`, once the entries take more than the limit."""
        if self.limit is None or used_bytes(db) <= self.limit:
            return
        oldest = db.execute(
            "SELECT DISTINCT effects.name, used FROM effects LEFT JOIN uses USING (name) ORDER BY used, name"
        ).fetchall()
        for name, _ in oldest:
            if used_bytes(db) <= KEPT * self.limit:
                return
            if name not in keep:
                db.execute("DELETE FROM effects WHERE name = ?", (name,))
                db.execute("DELETE FROM uses WHERE name = ?", (name,))


def _mark(db: sqlite3.Connection, names: Iterable[str]) -> None:
    now = time.time()
    db.executemany(
        "INSERT INTO uses VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET used = excluded.used WHERE used < ?",
        [(name, now, now - SAME_USE_SECONDS) for name in names],
    )


def default_effects(notify: Notify) -> EffectStore:
    """The file in the settings' cache folder, which may take a share of that folder's limit."""
    now = settings()
    return EffectStore(now.cache_dir / NAME, notify, round(SHARE * now.cache_bytes))
