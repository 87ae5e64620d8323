"""Tasks that can be measured besides the sidebar's: in their own words, from data that is at hand.

These are the built-in tasks that need no data, those of SuperGLUE that lie in the folder typed in the sidebar, and the
task files that were given: those of the workspace, and those that this session holds until they have been read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from explorer.actions import TasksChoice
from explorer.core.config import settings
from explorer.core.files import typed_path
from explorer.tasks import TASKS, is_relation, relations
from explorer.tasks.relations import PREFIX, fetched
from explorer.tasks.superglue import in_folder
from explorer.ui.session import state
from explorer.ui.session.notices import notices
from explorer.ui.shell.task_files import TaskFile, TaskFiles
from explorer.ui.shell.task_reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

HELD = 3  # task files that a session holds
HELP = (
    "Tasks whose data is at hand: give the folder of SuperGLUE, or a task file, in the sidebar to have those here, too."
)


@dataclass
class _Held:
    """The files that the session holds, by their ids."""

    files: dict[str, TaskFile] = field(default_factory=dict)


def named() -> tuple[str, ...]:
    """The names of the tasks that come along or were fetched."""
    return (*TASKS, *(f"{PREFIX}{name}" for name in fetched()))


def given() -> dict[str, TaskFile]:
    """The task files by their ids, those given last first."""
    kept = {file.id: file for file in TaskFiles.default().every()}
    return {file.id: file for file in reversed(_held().values())} | kept


def is_relation_file(file: TaskFile) -> bool:
    """Whether a task file is a relation."""
    if file.path is not None:
        return relations.is_relation_file(file.path)
    return is_relation(file.content or b"", file.name)


def hold(file: TaskFile) -> None:
    """Remember a file that was just given: Streamlit forgets it with its widget."""
    held = _held()
    held.pop(file.id, None)
    held[file.id] = file
    for old in list(held)[:-HELD]:
        del held[old]


def keep(id: str) -> None:
    """Keep a held file in the workspace, now that it has been read as a task."""
    file = _held().get(id)
    if file is None:
        return
    folder = TaskFiles.default()
    try:
        folder.keep(file)
    except OSError:
        notices().append_once(f"Task files cannot be kept in {folder.folder}: give yours again after a reload.")
    else:
        del _held()[id]


def remove(id: str) -> None:
    """Remove a file from the session and from the workspace."""
    _held().pop(id, None)
    folder = TaskFiles.default()
    try:
        folder.remove(id)
    except OSError:
        notices().append(f"The task file cannot be removed from {folder.folder}.")


def _held() -> dict[str, TaskFile]:
    return state.of(_Held).files


def readings(without: str | None = None) -> dict[str, Reading]:
    """The tasks at hand by name, in the order of the tasks' table, except the one called `without`.

    Of several files of one name it is the one given last.
    """
    found: dict[str, Reading] = {}
    for one in _found():
        if one.name != without:
            found.setdefault(one.name, one)
    return found


def _found() -> Iterator[Reading]:
    data = folder()
    for name, spec in TASKS.items():
        if not spec.needs_data:
            yield Reading(name)
        elif data is not None and in_folder(name, data):
            yield Reading(name, folder=data)
    for name in fetched():
        yield Reading(f"{PREFIX}{name}")
    for file in given().values():
        yield Reading(file.name, file=file)


def folder() -> Path | None:
    """The folder of SuperGLUE's data that was typed in the sidebar; None if there is none."""
    typed = state.SUPERGLUE.text
    return typed_path(typed) if typed else None


def choice(chosen: Iterable[Reading]) -> TasksChoice:
    """Some tasks as a request names them."""
    readings = tuple(chosen)
    data = next((one.folder for one in readings if one.folder is not None), None)
    return TasksChoice(task=tuple(one.name for one in readings), data=data, seed=settings().seed or None)


def files(chosen: Iterable[Reading]) -> list[str]:
    """Names of the users' files among some tasks: a copied command needs them beside it."""
    return [one.name for one in chosen if one.file is not None]
