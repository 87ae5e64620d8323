"""What journeys are about: the usual model and task, and a folder with grouped heads and a task file of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from explorer.core.files import write_json
from explorer.models import Model, load
from explorer.tasks import Task, load_task, parse
from explorer.ui.shell.task_files import TaskFile, TaskFiles
from tests import tiny

ROWS = [
    {"prompt": f"What is\n{a} x {b}?\nAnswer:", "answer": f" {a * b}", "choices": [f" {a * b}", f" {a + b + 90}"]}
    for a in range(2, 10)
    for b in range(2, 8)
]
NAME, CONTENT = "lines.jsonl", "\n".join(map(json.dumps, ROWS)).encode()
OWN = TaskFile.held(NAME, CONTENT)


@dataclass(frozen=True)
class Subject:
    """A model and a task, by the names that a link has.

    Attributes:
        model: name or folder.
        task: a built-in one's name, or the id and name of `OWN`.
    """

    model: str
    task: str

    @property
    def query(self) -> str:
        """What a link to it begins with."""
        return urlencode({"model": self.model, "task": self.task})

    def loaded(self) -> Model:
        """The model, without the app."""
        return load(self.model)

    def read(self) -> Task:
        """The task, without the app."""
        return parse(CONTENT, name=NAME, seed=0) if self.task == own_task() else load_task(self.task)


def own_task() -> str:
    """The file as a link names it."""
    return f"{OWN.id}~{OWN.name}"


def usual() -> Subject:
    """What the app opens with."""
    return Subject("bundled", "int-mult")


def own(root: Path, *, model: str | None = None) -> Subject:
    """A model of one's own and a task of one's own, which lies in the workspace under `root`."""
    folder = root / "grouped"
    if model is None and not folder.exists():
        tiny.save_letters(folder, "llama")
    workspace = root / "workspace"
    TaskFiles(workspace / "tasks").keep(OWN)
    write_json(workspace / "models.json", [str(folder), *([] if model is None else [model])])  # no link asks first
    return Subject(model or str(folder), own_task())
