"""The app, and a count of what its sessions hold that has not been freed, written to the file $CENSUS.

A copy of it beside a link to `pages/` is started in the place of app.py. It misses the connection that starts it.
"""

from __future__ import annotations

import json
import os
import runpy
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.app_session import AppSession

import explorer
from explorer.core.files import write_text
from explorer.ui.jobs import cached
from explorer.ui.session.history import Lines
from explorer.ui.session.session import Bench

EVERY = 0.1  # seconds
COUNTED = (AppSession, Bench, Lines)
APP = Path(explorer.__file__).parents[1] / "app.py"


@st.cache_resource(show_spinner=False)
def census() -> threading.Thread:
    """The thread that counts."""
    known: list[weakref.ref[Any]] = []
    for kind in COUNTED:
        _note(kind, lambda one: known.append(weakref.ref(one)))
    thread = threading.Thread(target=_count, args=(known,), daemon=True)
    thread.start()
    return thread


def _note(kind: type[Any], note: Callable[[object], None]) -> None:
    original = kind.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        note(self)

    kind.__init__ = init


def _count(known: list[weakref.ref[Any]]) -> None:
    path = Path(os.environ["CENSUS"])
    while True:
        alive = [type(found).__name__ for one in known[:] if (found := one()) is not None]
        jobs = list(cached.runner()._jobs.values())
        found = {
            **{kind.__name__: alive.count(kind.__name__) for kind in COUNTED},
            "results": sorted(str(job.key[0]) for job in jobs if job.result is not None),
            "running": sorted(str(job.key[0]) for job in jobs if job.active),
        }
        write_text(path, json.dumps(found))
        time.sleep(EVERY)


census()
runpy.run_path(str(APP), run_name="__main__")
