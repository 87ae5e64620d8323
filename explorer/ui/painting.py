"""Keep the browser answering while a page is drawn.

React renders in one task all elements that arrive together, and answers nobody meanwhile. What follows a pause is a
task of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from streamlit import runtime

T = TypeVar("T")
MOMENT = 0.04  # seconds in which a browser renders a dozen elements


def pause(seconds: float = MOMENT) -> None:
    """Let the browser render what has been drawn so far, if there is a browser."""
    if runtime.exists():
        time.sleep(seconds)


def awaited(look: Callable[[], T], there: Callable[[T], bool], seconds: float) -> T | None:
    """What `look` finds as soon as it is `there`; None after `seconds`, and where no browser would draw it."""
    end = time.monotonic() + seconds if runtime.exists() else 0.0
    while not there(found := look()):
        if time.monotonic() > end:
            return None
        time.sleep(MOMENT)
    return found
