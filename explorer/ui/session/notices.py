"""Sentences that every session of the process should see once, such as a damaged cache entry."""

from __future__ import annotations

import threading
from collections import deque

import streamlit as st

KEPT = 20


class Notices:
    """The latest sentences, numbered, so that each session can ask for those that it has not shown yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sentences: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._count = 0

    @property
    def count(self) -> int:
        """How many there have been."""
        return self._count

    def append(self, sentence: str) -> None:
        """Add a sentence; may be called from any thread."""
        with self._lock:
            self._count += 1
            self._sentences.append((self._count, sentence))

    def append_once(self, sentence: str) -> None:
        """Add a sentence unless it is among those kept."""
        with self._lock:
            known = any(sentence == one for _, one in self._sentences)
        if not known:
            self.append(sentence)

    def since(self, seen: int) -> tuple[int, list[str]]:
        """The number of the last sentence, and those above number `seen` that are still kept."""
        with self._lock:
            return self._count, [sentence for number, sentence in self._sentences if number > seen]


@st.cache_resource(show_spinner=False)
def notices() -> Notices:
    """Sentences for the users of this process, such as a damaged cache entry."""
    return Notices()
