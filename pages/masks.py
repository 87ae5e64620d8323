"""Masks: the library of saved masks; open, compare, combine, and see what one does on other tasks."""

import streamlit as st

from explorer.masks.belonging import names
from explorer.masks.library import Library
from explorer.ui.masks import actions, compare, saved, transfer
from explorer.ui.session import guide, session
from explorer.ui.shell import pages

pages.require_entry()
bench = session.current()

pages.heading("Masks")
library = Library.default()
known = library.list()
saved.save_current(bench, library, known)
saved.messages(library, known)

own = names(bench.model)
of_model = [entry for entry in known.entries if entry.mask.model.digest in own]
others = len(known.entries) - len(of_model)
every = False
if others:
    every = st.toggle(f"Also show {others:,} of other models", key="every-model", persist_state="session")
entries = known.entries if every else tuple(of_model)
if not entries:
    st.info(
        "The library holds no masks of this model yet. Remove values on the Prune page and save the mask here, or "
        "import mask files. They are kept in the workspace folder of this machine."
    )
    pages.end()

chosen = saved.table(bench, entries)
if not chosen:
    guide.explain("Select a row to open, rename, export or delete it; select two or more to compare and combine them.")
elif len(chosen) == 1:
    entry = chosen[0]
    actions.one(bench, library, entry)
    compare.two(bench, compare.beside(bench, entry.mask), (entry.name, entry.mask))
    if entry.mask.model.digest in own:
        compare.elsewhere(bench, entry.name, entry.mask)
    transfer.draw(bench, library, known, entry)
else:
    actions.several(bench, library, chosen)
    compare.two(bench, *((entry.name, entry.mask) for entry in chosen[:2]))
    if len(chosen) > 2:
        st.caption("The first two selected masks are compared.")
