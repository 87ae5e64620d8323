"""Another look at what runs in the background, again and again, by fragments alone.

A fragment's own `run_every` goes on until the whole page runs anew, and cannot say which fragments are to run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from explorer.ui.components.painting import LOOK

_MOUNT = st.components.v2.component(
    "eigenprune_ticker", js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"), isolate_styles=False
)


def mount(key: str, then: Callable[[], None], first: float = LOOK) -> None:
    """Call `then` after `first` seconds, and then every `LOOK`, for as long as this is drawn; it shows nothing.

    Args:
        key: Streamlit key.
        then: a callback; unless it calls `st.rerun`, the fragment runs that this is drawn in.
        first: seconds.
    """
    _MOUNT(key=key, data={"first": 1000 * first, "every": 1000 * LOOK}, height=0, on_look_change=then)
