"""What the keyboard does: the list in the sidebar, and a guard of undo and redo.

The guard leaves text fields their own keys, and lets no press be lost that comes before the page has run again.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from explorer.ui.components.matrix_steps import NEXT, PREVIOUS

KEYS = (
    ("Ctrl + Z, Ctrl + Y", "undo, redo the last change of the mask"),
    (f"{PREVIOUS}, {NEXT}", "previous, next matrix: on Spectra layer by layer, on Prune along the ranking"),
    ("Tab", "go to the plot of singular values, among other things; there:"),
    ("← →", "move along the values; Page Up and Down by ten, Home and End to the ends"),
    ("↑ ↓", "go to the plot's other matrices"),
    ("Enter, Space", "on Prune: remove the value, or restore it"),
    ("Esc", "hide the cursor"),
)
_GUARD = st.components.v2.component(
    "eigenprune_key_guard", js=(Path(__file__).parent / "guard.js").read_text(encoding="utf-8")
)


def draw(answered: int) -> None:
    """The list in a popover, and the guard, below what it guards; `answered`: how often undo or redo was pressed."""
    with st.popover("Keys", icon=":material/keyboard:", width="stretch", key="keys", help="What the keyboard does."):
        rows = "\n".join(f"| {keys} | {what} |" for keys, what in KEYS)
        st.markdown(f"| key | what it does |\n|---|---|\n{rows}")
        st.caption("Keys do nothing while you type in a field.")
    _GUARD(key="key-guard", data={"answered": answered}, height=1)
