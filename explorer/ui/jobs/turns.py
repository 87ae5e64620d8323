"""A queue that several owners share fairly.

1. Each owner's entries are handed out in order.
2. The next entry is that of the owner with the fewest entries in work; among equals, owners take turns.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """The queue; what is taken from it must be given back with `done`."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[T]] = {}  # the owner whose turn is next comes first
        self._working: Counter[Hashable] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, owner: Hashable, entry: T) -> None:
        """Add an entry."""
        with self._changed:
            self._waiting.setdefault(owner, deque()).append(entry)
            self._changed.notify()

    def get(self) -> tuple[Hashable, T] | None:
        """The next entry and whose it is, as soon as there is one; None once the queue is closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return None if self._closed else self._take(min(self._waiting, key=self._working.__getitem__))

    def get_unserved(self) -> tuple[Hashable, T] | None:
        """The next entry of an owner who has none in work; None if there is no such owner now."""
        with self._changed:
            owner = next((one for one in self._waiting if not self._working[one]), None)
            return None if owner is None or self._closed else self._take(owner)

    def waits(self, owner: Hashable, places: int) -> bool:
        """Whether an owner who has nothing in work may have to wait for others, if `places` entries can be in work."""
        with self._changed:
            own = self._waiting.get(owner, ())
            others = self._working.total() + sum(map(len, self._waiting.values())) - len(own)
            return bool(own) and not self._working[owner] and others >= places

    def done(self, owner: Hashable) -> None:
        """Say that an owner's entry is no longer in work."""
        with self._changed:
            self._working[owner] -= 1
            if not self._working[owner]:
                del self._working[owner]

    def close(self) -> None:
        """Hand out nothing more, and let everybody who waits go."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _take(self, owner: Hashable) -> tuple[Hashable, T]:
        entries = self._waiting.pop(owner)
        entry = entries.popleft()
        if entries:
            self._waiting[owner] = entries
        self._working[owner] += 1
        return owner, entry
