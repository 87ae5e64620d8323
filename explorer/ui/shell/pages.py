"""The pages of the app, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn

import streamlit as st

from explorer.core.config import ASSETS
from explorer.core.errors import ExplorerError
from explorer.ui.components.words import literal
from explorer.ui.streamlit_internals.elements import DeltaGenerator


@dataclass(frozen=True)
class Page:
    """One page: its script under pages/ (which also names its URL), title and icon."""

    script: str
    title: str
    icon: str


PAGES = (
    Page("pages/overview.py", "Overview", ":material/home:"),
    Page("pages/prune.py", "Prune", ":material/content_cut:"),
    Page("pages/scores.py", "Scores", ":material/leaderboard:"),
    Page("pages/search.py", "Search", ":material/search:"),
    Page("pages/spectra.py", "Spectra", ":material/bar_chart:"),
    Page("pages/activations.py", "Activations", ":material/visibility:"),
    Page("pages/masks.py", "Masks", ":material/bookmarks:"),
)
_BESIDE_TITLE: ContextVar[DeltaGenerator | None] = ContextVar("beside-title", default=None)
# Whether the script run of this thread came through app.py; not session state, which outlasts the run.
_ENTERED: ContextVar[bool] = ContextVar("entered", default=False)


def navigate() -> st.Page:
    """Declare the pages and give the one to run; called by app.py on every run."""
    return st.navigation(
        [st.Page(page.script, title=page.title, icon=page.icon, default=page is PAGES[0]) for page in PAGES]
    )


def heading(title: str) -> DeltaGenerator:
    """The page's title, and beside it a place for progress bars, so that nothing below moves when one comes or goes."""
    left, right = st.columns([1, 2], vertical_alignment="center")
    left.title(title, anchor=False)
    _BESIDE_TITLE.set(right)
    return right


class _End(Exception):
    """Ends a page's script."""


def end() -> NoReturn:
    """End the page here: what it needs is not there. The app goes on, as it does not after `st.stop`."""
    raise _End


def run(page: st.Page, then: Callable[[DeltaGenerator], None]) -> None:
    """Run a page, then draw beside its title; called by app.py."""
    came = _ENTERED.set(True)
    with suppress(_End):
        try:
            page.run()
        finally:
            _ENTERED.reset(came)
    if (place := _BESIDE_TITLE.get()) is not None:
        then(place)


def require_entry() -> None:
    """Send a run that reached a page script without app.py through app.py; each page calls it first.

    On a fresh server Streamlit takes `pages/` for pages of its own until `st.navigation` has been called once.
    """
    if not _ENTERED.get():
        st.set_page_config(page_icon=ASSETS / "icon.svg")  # before the page's own, which comes from another host
        navigate()
        st.rerun()


@contextmanager
def sentences() -> Iterator[None]:
    """Show an ExplorerError as its sentence instead of a traceback."""
    try:
        yield
    except ExplorerError as error:
        st.error(literal(str(error)), icon=":material/error:")
