"""A page that finds its server again is drawn at once, so that the first press of a button counts."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_MOUNT = st.components.v2.component(
    "eigenprune_reconnect",
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def mount() -> None:
    """Put the component, which shows nothing, onto the page."""
    _MOUNT(key="reconnect", height=0, on_found_change=lambda: None)
