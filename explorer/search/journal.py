"""What a search has measured, on disk: one that was killed goes on where it was and ends with the same bits.

1. A search is found by a digest of everything that decides its result (`explorer.search.identity`).
2. Strategies are deterministic: each time they ask for the same scores and measurements in the same order. Every answer
   is recorded as it comes (`Journal.add`), and a search that begins again is told the answers in that order
   (`Journal.next`) until there are none left. If it asks something else than was recorded, that record and all later
   ones are forgotten.
3. A strategy that does much between two questions keeps its own state besides (`Journal.keep`, `Journal.kept`).
4. The clock counts the seconds that all runs have spent together, up to their last records.

One SQLite file holds all searches, the finished ones among them: asked for again, they are there at once. Those used
longest ago go when the file grows beyond its limit. A single search that is larger than that keeps its measurements,
and its scores are computed again.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.core.config import settings
from explorer.core.sqlite import Notify, SqliteFile, used_bytes

NAME = "searches.sqlite"
SHARE = 0.05  # of the cache folder's limit
KEPT = 0.8  # of this file's limit, once searches have to go
TABLES = (
    "CREATE TABLE IF NOT EXISTS searches (search TEXT PRIMARY KEY, seconds REAL NOT NULL, used REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS parts (search TEXT, part TEXT, began REAL NOT NULL, PRIMARY KEY (search, part))",
    "CREATE TABLE IF NOT EXISTS records (search TEXT, part TEXT, place INTEGER, kind TEXT NOT NULL, "
    "question TEXT NOT NULL, answer BLOB, PRIMARY KEY (search, part, place))",
    "CREATE TABLE IF NOT EXISTS states (search TEXT, part TEXT, place INTEGER NOT NULL, state BLOB NOT NULL, "
    "PRIMARY KEY (search, part))",
    "CREATE TABLE IF NOT EXISTS requests (search TEXT PRIMARY KEY, subject TEXT NOT NULL, request TEXT NOT NULL, "
    "result TEXT)",
)
OF_SEARCHES = ("records", "states", "parts", "requests", "searches")


@dataclass(frozen=True)
class Recorded:
    """A search that the file holds, as whoever began it described it.

    Attributes:
        request: what was asked, as the asker wrote it.
        result: what it came to, likewise; None for one that has not come to its end.
        seconds: that all its runs took.
        used: when something was last recorded, in seconds since 1970.
        answers: how many scores and measurements are recorded.
    """

    search: str
    request: str
    result: str | None
    seconds: float
    used: float
    answers: int


@dataclass(frozen=True)
class JournalInfo:
    """What the file holds; sizes in bytes."""

    searches: int
    bytes: int
    limit: int


class JournalFile:
    """A file of journals.

    Args:
        path: the file; made with its folder when the first answer is recorded.
        notify: told in one sentence, once, that the file cannot be used; searches then run without it.
        limit: bytes that it may take; None for no limit.
    """

    def __init__(self, path: Path, notify: Notify, limit: int | None = None) -> None:
        self.path = path
        self.limit = limit
        self.file = SqliteFile(path, TABLES, "Searches", notify=notify)

    def open(self, search: str, *, fresh: bool = False) -> Journal:
        """The journal of one search; `fresh` forgets what it holds, and what is beside it."""
        if fresh:
            self.file.work(lambda db: _forget(db, search, beside=True), default=None)
        return Journal(self, search, "", root=None)

    def describe(self, search: str, subject: str, request: str) -> None:
        """Say what a search is about (`subject`) and what was asked, so that `about` finds it."""

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO requests VALUES (?, ?, ?, NULL) ON CONFLICT (search) DO UPDATE SET "
                "subject = excluded.subject, request = excluded.request",
                (search, subject, request),
            )

        self.file.work(write, default=None, create=True)

    def finish(self, search: str, result: str) -> None:
        """Say what a described search came to."""
        sql = "UPDATE requests SET result = ? WHERE search = ?"
        self.file.work(lambda db: db.execute(sql, (result, search)), default=None)

    def about(self, subject: str) -> tuple[Recorded, ...]:
        """The described searches about one thing, the latest first."""
        sql = (
            "SELECT search, request, result, seconds, used, "
            "(SELECT count(*) FROM records WHERE records.search = searches.search) "
            "FROM requests JOIN searches USING (search) WHERE subject = ? ORDER BY used DESC, search"
        )
        rows: list[Any] = self.file.work(lambda db: db.execute(sql, (subject,)).fetchall(), default=[])
        return tuple(Recorded(*row) for row in rows)

    def __len__(self) -> int:
        """Number of searches."""
        count: int = self.file.work(lambda db: db.execute("SELECT count(*) FROM searches").fetchone()[0], default=0)
        return count

    def info(self) -> JournalInfo:
        """How many searches there are, and how much room they take and may take."""
        return JournalInfo(len(self), self.file.work(used_bytes, default=0), self.limit or 0)

    def clear(self) -> int:
        """Remove all journals and give their space back; returns how many there were."""

        def remove(db: sqlite3.Connection) -> None:
            for table in OF_SEARCHES:
                db.execute(f"DELETE FROM {table}")

        count = len(self)
        self.file.work(remove, default=None)
        self.file.vacuum()
        return count

    def make_room(self, db: sqlite3.Connection, keep: str) -> bool:
        """Remove the searches used longest ago, but not `keep`, if the limit is passed; whether there is room now."""
        if self.limit is None or used_bytes(db) <= self.limit:
            return True
        oldest = db.execute("SELECT search FROM searches WHERE search != ? ORDER BY used, search", (keep,)).fetchall()
        for (search,) in oldest:
            _forget(db, search)
            if used_bytes(db) <= KEPT * self.limit:
                break
        return used_bytes(db) <= self.limit


class Journal:
    """The journal of one search, or of a search within it (`part`).

    Attributes:
        found: how many answers were there when it was opened.
    """

    def __init__(self, file: JournalFile, search: str, part: str, root: Journal | None) -> None:
        self._store, self._search, self._part = file, search, part
        self._root = root or self
        self._place = 0
        self.found: int = file.file.work(self._count, default=0)
        self._since = time.monotonic()
        self._spent: float = file.file.work(self._seconds, default=0.0)
        self._began: float = 0.0 if root is None else file.file.work(self._begin, default=root.seconds, create=True)

    @property
    def seconds(self) -> float:
        """Seconds that this search, or this part of it, has taken in all runs."""
        root = self._root
        return root._spent + time.monotonic() - root._since - self._began

    @property
    def replaying(self) -> bool:
        """Whether there are recorded answers that have not been asked for again."""
        return self._place < self.found

    @property
    def recorded(self) -> int:
        """Number of recorded answers, those of searches within this one among them."""
        sql, where = "SELECT count(*) FROM records WHERE search = ?", (self._search,)
        count: int = self._store.file.work(lambda db: db.execute(sql, where).fetchone()[0], default=0)
        return count

    def part(self, name: str) -> Journal:
        """The journal of a search within this one; its clock runs since its first run began."""
        return Journal(self._store, self._search, f"{self._part}/{name}", root=self._root)

    def beside(self, name: str) -> Journal:
        """The journal of what is measured of this search's result, with a clock of its own."""
        return Journal(self._store, f"{self._search} {name}", "", root=None)

    def next(self, kind: str, question: str) -> bytes | None:
        """The recorded answer if this is what was asked next; None if it has to be found now (`add`)."""
        if not self.replaying:
            return None
        row = self._store.file.work(self._read, default=None)
        if row is None or row[:2] != (kind, question):
            self._store.file.work(self._forget_rest, default=None)
            self.found = self._place
            return None
        if row[2] is not None:
            self._place += 1
        return row[2]  # type: ignore[no-any-return]

    def add(self, kind: str, question: str, answer: bytes, *, dear: bool = False) -> None:
        """Record the answer to what `next` did not know; a `dear` one is left out if there is no room for it."""

        def write(db: sqlite3.Connection) -> None:
            self._mark(db)
            place = (self._search, self._part, self._place)
            db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)", (*place, kind, question, answer))
            if not self._store.make_room(db, self._search) and dear:
                db.execute("UPDATE records SET answer = NULL WHERE (search, part, place) = (?, ?, ?)", place)

        self._store.file.work(write, default=None, create=True)
        self._place += 1

    def answers(self, kind: str) -> list[bytes]:
        """All answers of one kind up to where the search is now."""
        where = (self._search, self._part, self._place, kind)
        sql = "SELECT answer FROM records WHERE search = ? AND part = ? AND place < ? AND kind = ? ORDER BY place"
        rows: list[Any] = self._store.file.work(lambda db: db.execute(sql, where).fetchall(), default=[])
        return [answer for (answer,) in rows]

    def keep(self, state: bytes) -> None:
        """Keep a strategy's own state as of now, in place of the one before."""

        def write(db: sqlite3.Connection) -> None:
            self._mark(db)
            values = (self._search, self._part, self._place, state)
            db.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", values)

        self._store.file.work(write, default=None, create=True)

    def kept(self) -> bytes | None:
        """The state kept last, after going to where the search was then; None if there is none ahead."""
        where = (self._search, self._part)
        sql = "SELECT place, state FROM states WHERE search = ? AND part = ?"
        row = self._store.file.work(lambda db: db.execute(sql, where).fetchone(), default=None)
        if row is None or not self._place <= row[0] <= self.found:
            return None
        self._place = row[0]
        return row[1]  # type: ignore[no-any-return]

    def _count(self, db: sqlite3.Connection) -> int:
        sql = "SELECT count(*) FROM records WHERE search = ? AND part = ?"
        return int(db.execute(sql, (self._search, self._part)).fetchone()[0])

    def _seconds(self, db: sqlite3.Connection) -> float:
        row = db.execute("SELECT seconds FROM searches WHERE search = ?", (self._search,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def _begin(self, db: sqlite3.Connection) -> float:
        row = (self._search, self._part)
        db.execute("INSERT OR IGNORE INTO parts VALUES (?, ?, ?)", (*row, self._root.seconds))
        return float(db.execute("SELECT began FROM parts WHERE search = ? AND part = ?", row).fetchone()[0])

    def _read(self, db: sqlite3.Connection) -> Any:
        where = (self._search, self._part, self._place)
        sql = "SELECT kind, question, answer FROM records WHERE search = ? AND part = ? AND place = ?"
        return db.execute(sql, where).fetchone()

    def _forget_rest(self, db: sqlite3.Connection) -> None:
        where = (self._search, self._part, self._place)
        db.execute("DELETE FROM records WHERE search = ? AND part = ? AND place >= ?", where)
        db.execute("DELETE FROM states WHERE search = ? AND part = ? AND place > ?", where)

    def _mark(self, db: sqlite3.Connection) -> None:
        """Write the clock, and that the search was used."""
        row = (self._search, self._root.seconds, time.time())
        db.execute("INSERT OR REPLACE INTO searches VALUES (?, ?, ?)", row)


def _forget(db: sqlite3.Connection, search: str, *, beside: bool = False) -> None:
    """Remove a search; with what is `beside` it, too, if that is wanted."""
    for table in OF_SEARCHES:
        db.execute(f"DELETE FROM {table} WHERE search = ?", (search,))
        if beside:
            db.execute(f"DELETE FROM {table} WHERE substr(search, 1, ?) = ?", (len(search) + 1, f"{search} "))


def default_journals(notify: Notify) -> JournalFile:
    """The file in the settings' cache folder, which may take a share of that folder's limit."""
    now = settings()
    return JournalFile(now.cache_dir / NAME, notify, round(SHARE * now.cache_bytes))
