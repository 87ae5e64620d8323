"""Work that takes as long as a test wants."""

from __future__ import annotations

import threading
from typing import Any

SOON = 20.0


class Slow:
    """Stands in for a piece of work: goes half way, waits to be released, then does the real work."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.gate = threading.Event()
        self.started = threading.Event()
        self.calls = 0

    def __call__(self, *args: Any, progress: Any = None, **options: Any) -> Any:
        self.calls += 1
        progress(1, 2)
        self.started.set()
        deadline = SOON
        while not self.gate.wait(0.02):
            progress(1, 2)
            deadline -= 0.02
            assert deadline > 0
        return self.original(*args, progress=progress, **options)
