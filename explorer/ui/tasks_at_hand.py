"""Tasks that can be measured besides the sidebar's: in their own words, from data that this session has given.

These are the built-in tasks that need no data, those of SuperGLUE that lie in the folder typed in the sidebar, and the
last task files that were uploaded there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import streamlit as st

from explorer.files import typed_path
from explorer.tasks import TASKS
from explorer.tasks.superglue import in_folder
from explorer.ui.task_reading import Reading

UPLOADS = 3  # task files that a session holds
HELP = (
    "Tasks whose data is at hand: give the folder of SuperGLUE, or a task file, in the sidebar to have those here, too."
)
_FILES = "uploaded-tasks"


def note_upload() -> None:
    """Remember the sidebar's task file: Streamlit forgets it when another task is chosen."""
    upload = st.session_state.get("task_file")
    if upload is None:
        return
    held = cast("dict[str, bytes]", st.session_state.setdefault(_FILES, {}))
    held.pop(upload.name, None)
    held[upload.name] = upload.getvalue()
    for old in list(held)[:-UPLOADS]:
        del held[old]


def readings(without: str | None = None) -> dict[str, Reading]:
    """The tasks at hand by name, in the order of the tasks' table, except the one called `without`."""
    return {one.name: one for one in _found() if one.name != without}


def _found() -> Iterator[Reading]:
    given = folder()
    for name, spec in TASKS.items():
        if not spec.needs_data:
            yield Reading(name)
        elif given is not None and in_folder(name, given):
            yield Reading(name, folder=given)
    for name, content in st.session_state.get(_FILES, {}).items():
        yield Reading(name, content=content)


def folder() -> Path | None:
    """The folder of SuperGLUE's data that was typed in the sidebar; None if there is none."""
    typed = str(st.session_state.get("superglue") or "").strip()
    return typed_path(typed) if typed else None


def files(chosen: Iterable[Reading]) -> list[str]:
    """Names of the uploaded files among some tasks: a copied command needs them beside it."""
    return [one.name for one in chosen if one.content is not None]
