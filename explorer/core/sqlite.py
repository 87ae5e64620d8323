"""One SQLite file whose loss costs nothing but time: work goes on without it if it cannot be used.

Each piece of work is one transaction: after kill -9 it is there as a whole or not at all. Several processes may share
the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

BUSY_SECONDS = 30.0
Notify = Callable[[str], None]


class SqliteFile:
    """A file of some tables.

    Args:
        path: the file; made with its folder when something is first written.
        tables: statements that make the tables, each `CREATE TABLE IF NOT EXISTS`.
        what: what the file holds, for the sentence that says that it cannot be used.
        notify: told that sentence, once.
    """

    def __init__(self, path: Path, tables: Sequence[str], what: str, notify: Notify) -> None:
        self.path = path
        self._tables, self._what, self._notify = tables, what, notify
        self._usable = True

    def work(self, work: Callable[[sqlite3.Connection], Any], *, default: Any, create: bool = False) -> Any:
        """Do one piece of work in a transaction; `default` if there is no file, or if it cannot be used."""
        if not self._usable or not (create or self.path.exists()):
            return default
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # whole after kill -9, without a wait for the disk
                connection.execute("PRAGMA synchronous = NORMAL")
                for table in self._tables:
                    connection.execute(table)
                with connection:
                    return work(connection)
        except (sqlite3.Error, OSError) as error:
            self._usable = False
            self._notify(f"{self._what} cannot be kept in {self.path} ({error}): working without that file.")
            return default

    def vacuum(self) -> None:
        """Give the room of what was removed back."""
        self.work(lambda db: db.execute("VACUUM"), default=None)


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the pages that hold something; freed pages are used again, so the file grows no further."""

    def pragma(what: str) -> Any:
        return db.execute(f"PRAGMA {what}").fetchone()[0]

    return int((pragma("page_count") - pragma("freelist_count")) * pragma("page_size"))
