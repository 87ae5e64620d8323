"""Tasks read as jobs, once: no rerun reads a file again, and no click waits for the hub."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from explorer.core.config import settings
from explorer.core.progress import Progress, part
from explorer.tasks import (
    AS_USUAL,
    TASKS,
    USUAL_CASES,
    Cases,
    Framing,
    Shown,
    Task,
    as_asked,
    is_harness,
    is_relation,
    load_task,
    only,
    parse,
    parse_harness,
    parse_relation,
)
from explorer.tasks.superglue import stamps
from explorer.ui.components.painting import Wait
from explorer.ui.jobs.cached import compute, runner
from explorer.ui.jobs.runner import Key
from explorer.ui.shell.task_files import TaskFile


@dataclass(frozen=True)
class Reading:
    """A task that the sidebar asks for; where it comes from, and how it is asked.

    Attributes:
        name: of a built-in task, or of the uploaded file.
        shots, template, metric, cases: as `load_task` takes them.
        folder: of SuperGLUE's data; None for the hub, and for tasks that need none.
        framing: what stands around the prompts.
        file: the user's own; None for built-in tasks.
    """

    name: str
    shots: int = 0
    template: str | None = None
    folder: Path | None = None
    file: TaskFile | None = None
    framing: Framing = AS_USUAL
    metric: str = "auto"
    cases: Cases = USUAL_CASES

    @property
    def fetched(self) -> bool:
        """Whether it comes from the hub, which takes a while and may succeed another time."""
        return self.file is None and self.folder is None and self.name in TASKS and TASKS[self.name].needs_data

    @cached_property
    def key(self) -> Key:
        """The job: another one if the uploaded file holds something else, or a file in the folder has changed."""
        source: Key = ()
        if self.file is not None:
            source = ("upload", self.file.id)
        elif self.folder is not None:
            source = ("folder", str(self.folder), stamps(self.name, self.folder))
        asked = (self.shots, self.template, self.framing, self.metric, self.cases)
        return ("task", self.name, settings().seed, *asked, source)

    def task(self) -> Task | None:
        """The task; None while it is read, or if it cannot be, which is shown in this place of the sidebar."""
        where = " from the hub" if self.fetched else ""
        wait = Wait(urgent=not self.fetched, again=self.fetched, narrow=True)
        return compute(self.key, f"Reading {self.name}{where}", self._work, wait=wait)

    @property
    def under_way(self) -> bool:
        """Whether it is being read, or waits for that."""
        return runner().under_way(self.key)

    def _work(self, progress: Progress) -> Task:
        seed = settings().seed
        if self.file is not None:
            task = self._of_file(self.file.read(), seed, part(progress, 0.0, 0.7))
        else:
            task = load_task(self.name, seed, template=self.template, data=self.folder, cases=self.cases)
        progress(7, 10)
        task = as_asked(only(task, self.cases.only), self.framing, self.shots, metric=self.metric)
        progress(8, 10)
        _ = task.digest, task.notices  # worked out here once: every page asks for them
        return task

    def _of_file(self, content: bytes, seed: int, progress: Progress | None) -> Task:
        if is_harness(self.name):
            asked = Shown(self.shots, self.template, self.cases, progress=progress)
            return parse_harness(content, name=self.name, seed=seed, asked=asked)
        if is_relation(content, self.name):
            return parse_relation(content, name=self.name, seed=seed, template=self.template, cases=self.cases)
        return parse(content, name=self.name, seed=seed, template=self.template, progress=progress, cases=self.cases)
