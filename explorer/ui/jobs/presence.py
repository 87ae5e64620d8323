"""Who is here, and what goes with a tab that has been closed.

1. Every run of the app says that its tab is here. Streamlit says when a tab's connection ends.
2. A tab that opens a session which another one shows goes on under a name of its own (`shown_elsewhere`).
3. A reload is a new connection of the same session (the URL names it), and a lost one comes back: so nothing goes
   before `Settings.closed_seconds` have passed. Then Streamlit's state of the tab is closed and emptied. Left to
   itself, Streamlit would keep it until another tab is closed.
4. With a session's last tab go the jobs and results that only this session wanted.
5. When nobody is here any more, idle views go and garbage is collected in full, which delays no click then.

Timers run in Streamlit's event loop, whose thread may close sessions.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from explorer.core.config import settings
from explorer.ui.jobs import cached, pauses
from explorer.ui.session import session
from explorer.ui.streamlit_internals import connections, runs


@dataclass(frozen=True, eq=False)
class Tab:
    """One connection of a browser.

    Attributes:
        connection: Streamlit's id of it.
        session: the session that it shows, by its name in the URL.
        forget: empties what Streamlit holds for it.
    """

    connection: str
    session: str
    forget: Callable[[], None]


class Presence:
    """The tabs that are here or have been closed a moment ago.

    Args:
        seconds: how long a closed tab is waited for.
        is_open: whether a connection is open.
        close: closes a connection's state for good.
        gone: called with a session whose last tab is gone.
        empty: called when no tab is left.
    """

    def __init__(
        self,
        seconds: float,
        is_open: Callable[[str], bool],
        close: Callable[[str], None],
        gone: Callable[[str], None],
        empty: Callable[[], None],
    ) -> None:
        self._seconds = seconds
        self._is_open, self._close, self._gone, self._empty = is_open, close, gone, empty
        self._tabs: set[Tab] = set()
        self._lock = threading.Lock()

    def enter(self, tab: Tab) -> None:
        """A tab is here; one of the same connection and session is outdated by it."""
        with self._lock:
            same = {one for one in self._tabs if (one.connection, one.session) == (tab.connection, tab.session)}
            self._tabs = self._tabs - same | {tab}

    def shown_elsewhere(self, session: str, connection: str) -> bool:
        """Whether another open connection shows the session; one that was closed, as by a reload, does not count."""
        with self._lock:
            others = [tab.connection for tab in self._tabs if tab.session == session and tab.connection != connection]
        return any(map(self._is_open, others))

    def leave(self, tab: Tab) -> None:
        """A tab's connection has ended: see later whether it is back; called in the event loop."""
        asyncio.get_running_loop().call_later(self._seconds, self._settle, tab)

    def _settle(self, tab: Tab) -> None:
        with self._lock:
            if tab not in self._tabs:
                return
            back = self._is_open(tab.connection)
            if not back:
                self._tabs.remove(tab)
            last = all(one.session != tab.session for one in self._tabs)
            nobody = not self._tabs
        if back:
            self.leave(tab)
            return
        self._close(tab.connection)
        tab.forget()
        if last:
            self._gone(tab.session)
        if nobody:
            self._empty()


def here() -> None:
    """This run's tab is here; app.py says so once the session has its name."""
    _tab(session.token())


def shown_elsewhere() -> bool:
    """Whether another tab shows this session, as after duplicating a tab; then both would save over each other."""
    return _presence().shown_elsewhere(session.token(), runs.connection())


@st.cache_resource(show_spinner=False)
def _presence() -> Presence:
    def empty() -> None:
        cached.views.clear()
        pauses.everything()

    return Presence(
        settings().closed_seconds,
        is_open=connections.is_open,
        close=connections.close,
        gone=lambda name: cached.runner().leave(name),
        empty=empty,
    )


@st.cache_resource(show_spinner=False, scope="session", on_release=lambda tab: _presence().leave(tab))
def _tab(name: str) -> Tab:
    """Released by Streamlit when the tab's connection ends, and made anew if it comes back."""
    tab = Tab(runs.connection(), name, runs.forgetting())
    _presence().enter(tab)
    return tab
