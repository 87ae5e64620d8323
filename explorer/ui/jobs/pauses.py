"""Keep the pauses for garbage collection short.

Streamlit forces a full collection after every script run. It goes through every object of torch and the models, some
300 ms in which no session is answered. So:

1. A full collection that took long is followed by `gc.freeze`: what has survived it is left out of the next ones.
2. Now and then everything is looked at once more, so that models and sessions that are gone are freed.
"""

from __future__ import annotations

import gc
import time
from typing import Literal

LONG = 0.02  # seconds
EVERYTHING_EVERY = 900.0  # seconds
_FULL = 2  # the oldest generation


class _Pauses:
    """A callback of the garbage collector."""

    def __init__(self) -> None:
        self._began = self._everything = time.monotonic()

    def __call__(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if info["generation"] != _FULL:
            return
        now = time.monotonic()
        if phase == "start":
            self._began = now
            if now - self._everything > EVERYTHING_EVERY:
                self._everything = now
                gc.unfreeze()
        elif now - self._began > LONG:
            gc.freeze()


def shorten() -> None:
    """Do so from now on; once for the process, however often this is called."""
    if not any(isinstance(one, _Pauses) for one in gc.callbacks):
        gc.callbacks.append(_Pauses())


def everything() -> None:
    """Look at everything once more now; for a moment when a pause disturbs nobody."""
    gc.unfreeze()
    gc.collect()
