"""What every page loads and nobody sees.

1. One entry of the browser's history for each view, so that Back goes back one view in one press.
2. A page that finds its server again is drawn at once, so that the first press of a button counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st


def _component(name: str) -> Any:
    js = Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8")
    return st.components.v2.component(f"eigenprune_{name}", js=js, isolate_styles=False)


_HISTORY, _RECONNECT = map(_component, ("browser_history", "reconnect"))


def mount() -> None:
    """Put both onto the page; called by app.py before anything writes to the URL."""
    _HISTORY(key="browser-history", height=0)
    _RECONNECT(key="reconnect", height=0, on_found_change=lambda: None)
