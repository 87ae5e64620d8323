"""Keep the browser answering while a page is drawn.

React renders in one task all elements that arrive together, and answers nobody meanwhile. What follows a pause is a
task of its own.
"""

from __future__ import annotations

import time

from explorer.ui.streamlit_internals.connections import watched

__all__ = ["MOMENT", "pause", "watched"]

MOMENT = 0.04  # seconds in which a browser renders a dozen elements


def pause(seconds: float = MOMENT) -> None:
    """Let the browser render what has been drawn so far, if there is a browser."""
    if watched():
        time.sleep(seconds)
