"""What a page is, and what all pages share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import streamlit as st

from explorer.core.config import ASSETS
from explorer.core.errors import ExplorerError
from explorer.models import Model
from explorer.ui.components.words import literal
from explorer.ui.shell import mask_panel
from explorer.ui.streamlit_internals.elements import DeltaGenerator


@dataclass(frozen=True)
class Page:
    """One page, as its package declares it.

    Attributes:
        script: its file under pages/, which also names its URL.
        draw: draws it.
        first: draws what the page shows before the sidebar and all else.
        shows: what other pages go to it for: "mask", "matrix", "example" or "search".
    """

    script: str
    title: str
    icon: str
    draw: Callable[[], None]
    first: Callable[[], None] | None = None
    shows: str = ""


_TABLE: list[Page] = []  # as app.py declares it on every run
_BESIDE_TITLE: ContextVar[DeltaGenerator | None] = ContextVar("beside-title", default=None)
# Whether the script run of this thread came through app.py; not session state, which outlasts the run.
_ENTERED: ContextVar[bool] = ContextVar("entered", default=False)


def navigate(table: Sequence[Page]) -> st.Page:
    """Declare the pages, of which the first is where one begins, and give the one to run; on every run."""
    _TABLE[:] = table
    return st.navigation(
        [st.Page(page.script, title=page.title, icon=page.icon, default=page is table[0]) for page in table]
    )


def style() -> None:
    """Give what pages are about its room; app.py calls it on every run, before anything is drawn."""
    st.html(Path(__file__).with_name("room.css"))


def showing(what: str) -> Page | None:
    """The page that one goes to for something; None if there is none."""
    return next((page for page in _TABLE if page.shows == what), None)


def link(what: str, label: str) -> None:
    """A link to the page that shows something."""
    if (page := showing(what)) is not None:
        st.page_link(page.script, label=label, icon=":material/arrow_forward:")


def go_to(what: str) -> None:
    """Go to the page that shows something; ends the run."""
    if (page := showing(what)) is not None:
        st.switch_page(page.script)


def heading(title: str, model: Model) -> DeltaGenerator:
    """The page's title, what every page does with the mask, and between them a place for progress bars.

    Nothing below moves when a bar comes or goes.
    """
    left, middle, right = st.columns([4, 8, 9], vertical_alignment="center")
    left.title(title, anchor=False)
    with right:
        mask_panel.toolbar(model)
    _BESIDE_TITLE.set(middle)
    return middle


class _End(Exception):
    """Ends a page's script."""


def end() -> NoReturn:
    """End the page here: what it needs is not there. The app goes on, as it does not after `st.stop`."""
    raise _End


def first(page: st.Page) -> None:
    """Draw what a page shows before all else; called by app.py."""
    for one in _TABLE:
        if one.title == page.title and one.first is not None:
            one.first()


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


def draw(page: Page, table: Sequence[Page]) -> None:
    """Draw a page; called by its script. A run that reached that without app.py is sent through app.py.

    On a fresh server Streamlit takes `pages/` for pages of its own until `st.navigation` has been called once.
    """
    if not _ENTERED.get():
        st.set_page_config(page_icon=ASSETS / "icon.svg")  # before the page's own, which comes from another host
        navigate(table)
        st.rerun()
    page.draw()


@contextmanager
def sentences() -> Iterator[None]:
    """Show an ExplorerError as its sentence instead of a traceback."""
    try:
        yield
    except ExplorerError as error:
        st.error(literal(str(error)), icon=":material/error:")
