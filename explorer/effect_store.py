"""Exact effects on disk: what was measured once is not measured again, and a killed run goes on where it was.

One SQLite file. An entry is found by a name that says everything the effect depends on (`explorer.attribution.exact`
makes it from digests of content) and by the value's index. Entries appear in whole groups: a group that was being
written when the process died is absent. Several processes may share the file.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from explorer.config import settings

NAME = "effects.sqlite"
BUSY_SECONDS = 30.0
TABLE = (
    "CREATE TABLE IF NOT EXISTS effects (name TEXT, place INTEGER, effect REAL NOT NULL, stderr REAL, "
    "n INTEGER NOT NULL, PRIMARY KEY (name, place)) WITHOUT ROWID"
)
Entry = tuple[float, float, int]  # mean change of the loss (nats per example), its standard error, examples
Notify = Callable[[str], None]


class EffectStore:
    """A file of exact effects.

    Args:
        path: the file; made with its folder when the first entries are saved.
        notify: told in one sentence, once, that the file cannot be used; work goes on without it.
    """

    def __init__(self, path: Path, notify: Notify) -> None:
        self.path = path
        self._notify = notify
        self._usable = True

    def load(self, name: str) -> dict[int, Entry]:
        """All entries under a name, by index."""
        rows = self._work(
            lambda db: db.execute("SELECT place, effect, stderr, n FROM effects WHERE name = ?", (name,)).fetchall(),
            default=[],
        )
        return {place: (effect, math.nan if stderr is None else stderr, n) for place, effect, stderr, n in rows}

    def save(self, entries: Mapping[tuple[str, int], Entry]) -> None:
        """Save entries by (name, index), all or none of them."""
        rows = [(name, place, *entry) for (name, place), entry in entries.items()]  # SQLite keeps a NaN as NULL
        self._work(
            lambda db: db.executemany("INSERT OR REPLACE INTO effects VALUES (?, ?, ?, ?, ?)", rows),
            default=None,
            create=True,
        )

    def __len__(self) -> int:
        """Number of entries."""
        count: int = self._work(lambda db: db.execute("SELECT count(*) FROM effects").fetchone()[0], default=0)
        return count

    def clear(self) -> int:
        """Remove all entries and give their space back; returns how many there were."""
        count = len(self)
        self._work(lambda db: db.execute("DELETE FROM effects"), default=None)
        self._work(lambda db: db.execute("VACUUM"), default=None)
        return count

    def _work(self, work: Callable[[sqlite3.Connection], Any], *, default: Any, create: bool = False) -> Any:
        """Do one piece of work in a transaction; `default` if there is no file, or if it cannot be used."""
        if not self._usable or not (create or self.path.exists()):
            return default
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # whole after kill -9, without a wait for the disk
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(TABLE)
                with connection:
                    return work(connection)
        except (sqlite3.Error, OSError) as error:
            self._usable = False
            self._notify(f"Exact effects cannot be kept in {self.path} ({error}): working without that file.")
            return default


def default_effects(notify: Notify) -> EffectStore:
    """The file in the settings' cache folder."""
    return EffectStore(settings().cache_dir / NAME, notify)
