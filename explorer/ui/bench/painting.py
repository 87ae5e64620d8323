"""Keep the browser answering while a page is drawn.

React renders in one task all elements that arrive together, and answers nobody meanwhile. What follows a pause is a
task of its own.
"""

from __future__ import annotations

import time

from streamlit import runtime

MOMENT = 0.04  # seconds in which a browser renders a dozen elements


def watched() -> bool:
    """Whether a browser may be showing what is drawn."""
    return runtime.exists()


def pause(seconds: float = MOMENT) -> None:
    """Let the browser render what has been drawn so far, if there is a browser."""
    if watched():
        time.sleep(seconds)
