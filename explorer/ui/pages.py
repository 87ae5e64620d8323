"""The pages of the app, in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.config import ASSETS
from explorer.errors import ExplorerError
from explorer.ui.words import literal


@dataclass(frozen=True)
class Page:
    """One page: its script under pages/ (which also names its URL), title and icon."""

    script: str
    title: str
    icon: str


PAGES = (
    Page("pages/overview.py", "Overview", ":material/home:"),
    Page("pages/prune.py", "Prune", ":material/content_cut:"),
    Page("pages/spectra.py", "Spectra", ":material/bar_chart:"),
    Page("pages/activations.py", "Activations", ":material/visibility:"),
)
_VISITED = "visited_pages"
# Whether the script run of this thread came through app.py; not session state, which outlasts the run.
_ENTERED: ContextVar[bool] = ContextVar("entered", default=False)


def navigate() -> st.Page:
    """Declare the pages and give the one to run; called by app.py on every run."""
    page = st.navigation(
        [st.Page(page.script, title=page.title, icon=page.icon, default=page is PAGES[0]) for page in PAGES]
    )
    st.session_state.setdefault(_VISITED, set()).add(page.title)
    return page


def visited(title: str) -> bool:
    """Whether this session has been on a page."""
    return title in st.session_state.get(_VISITED, ())


def heading(title: str) -> DeltaGenerator:
    """The page's title, and beside it a place for progress bars, so that nothing below moves when one comes or goes."""
    left, right = st.columns([1, 2], vertical_alignment="center")
    left.title(title, anchor=False)
    return right


def run(page: st.Page) -> None:
    """Run a page; called by app.py."""
    came = _ENTERED.set(True)
    try:
        page.run()
    finally:
        _ENTERED.reset(came)


def require_entry() -> None:
    """Send a run that reached a page script without app.py through app.py; each page calls it first.

    On a fresh server Streamlit takes `pages/` for pages of its own until `st.navigation` has been called once.
    """
    if not _ENTERED.get():
        st.set_page_config(page_icon=ASSETS / "icon.svg")  # before the page's own, which comes from another host
        navigate()
        st.rerun()


def steps(what: Sequence[tuple[str, str, str]], current: int) -> None:
    """Boxes with (name, text, title of a page) in order, each with a button to its page; `current` stands out."""
    for position, (box, (name, text, title)) in enumerate(zip(st.columns(len(what), border=True), what, strict=True)):
        page = next(page for page in PAGES if page.title == title)
        next_one = position == current
        with box:
            badge = (
                " :primary-badge[next]" if next_one else " :gray-badge[:material/check: done]" * (position < current)
            )
            st.markdown(f"**{position + 1}. {name}**{badge}")
            st.markdown(text)
            if st.button(
                f"Open {title}",
                key=f"step-{title.lower()}",
                icon=page.icon,
                type="primary" if next_one else "secondary",
                width="stretch",
            ):
                st.switch_page(page.script)


@contextmanager
def sentences() -> Iterator[None]:
    """Show an ExplorerError as its sentence instead of a traceback."""
    try:
        yield
    except ExplorerError as error:
        st.error(literal(str(error)), icon=":material/error:")
