"""One entry of the browser's history for each view, so that Back goes back one view in one press."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_MOUNT = st.components.v2.component(
    "eigenprune_browser_history",
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def mount() -> None:
    """Put the component, which shows nothing, onto the page; called by app.py before anything writes to the URL."""
    _MOUNT(key="browser-history", height=0)
