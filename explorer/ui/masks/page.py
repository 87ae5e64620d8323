"""Masks: the library of saved masks; open, compare, combine, and see what one does on other tasks."""

from __future__ import annotations

import streamlit as st

from explorer.masks.belonging import names
from explorer.masks.library import Entry, Library, Listing
from explorer.ui.masks import actions, compare, folders, saved, transfer
from explorer.ui.session import Bench, guide, session
from explorer.ui.shell import pages


def draw() -> None:
    """The library, and below it what can be done with what is selected in it."""
    bench = session.current()
    pages.heading("Masks", bench.model)
    library = Library.default()
    known = library.list()
    saved.save_current(bench, library, known)
    saved.messages(library, known)
    entries = _choose_entries(bench, known)
    if not entries:
        st.info(
            "The library holds no masks of this model yet. Remove values on the Prune page and save the mask here, or "
            "import mask files. They are kept in the workspace folder of this machine."
        )
        pages.end()
    chosen = saved.table(bench, entries)
    if not chosen:
        guide.explain(
            "Select a row to open, rename, export or delete it; select two or more to compare and combine them."
        )
    elif len(chosen) == 1:
        _one(bench, library, known, entry=chosen[0])
    else:
        actions.several(bench, library, chosen)
        compare.two(bench, *((entry.name, entry.mask) for entry in chosen[:2]))
        if len(chosen) > 2:
            st.caption("The first two selected masks are compared.")


def _choose_entries(bench: Bench, known: Listing) -> tuple[Entry, ...]:
    """The masks of the bench's model; those of other models, too, if they are wanted."""
    own = names(bench.model)
    of_model = tuple(entry for entry in known.entries if entry.mask.model.digest in own)
    others = len(known.entries) - len(of_model)
    if others and st.toggle(f"Also show {others:,} of other models", key="every-model", persist_state="session"):
        return known.entries
    return of_model


def _one(bench: Bench, library: Library, known: Listing, entry: Entry) -> None:
    actions.one(bench, library, entry)
    compare.two(bench, compare.beside(bench, entry.mask), (entry.name, entry.mask))
    if entry.mask.model.digest in names(bench.model):
        compare.elsewhere(bench, entry.name, entry.mask)
        folders.draw(bench, entry)
    transfer.draw(bench, library, known, entry=entry)
