"""Tasks as text: examples in splits, one table of the built-in ones, and JSONL and CSV files."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from explorer.core.errors import TaskError
from explorer.core.files import typed_path
from explorer.core.progress import Progress
from explorer.tasks.arithmetic import INT_MULT, INT_MULT_12, INT_SUM
from explorer.tasks.base import SPLITS, Example, Task
from explorer.tasks.capitals import COUNTRY_CAPITALS
from explorer.tasks.custom import SUFFIXES, parse, parse_jsonl, read_file
from explorer.tasks.framing import AS_USUAL, BOS_RULES, Framing, as_framing
from explorer.tasks.greater_than import GREATER_THAN
from explorer.tasks.induction import INDUCTION
from explorer.tasks.ioi import IOI
from explorer.tasks.metric import METRICS, AskedMetric, Metric
from explorer.tasks.shots import MOST_SHOTS, with_shots
from explorer.tasks.spec import TaskSpec
from explorer.tasks.superglue import CB, COPA, RTE

__all__ = [
    "AS_USUAL",
    "BOS_RULES",
    "METRICS",
    "MOST_SHOTS",
    "SPLITS",
    "SUFFIXES",
    "TASKS",
    "AskedMetric",
    "Example",
    "Framing",
    "Metric",
    "Task",
    "TaskSpec",
    "as_framing",
    "load_task",
    "parse",
    "parse_jsonl",
    "read_file",
    "with_metric",
    "with_shots",
]

_SPECS = (INT_SUM, INT_MULT, INT_MULT_12, CB, COPA, RTE, IOI, GREATER_THAN, COUNTRY_CAPITALS, INDUCTION)
TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in _SPECS}


def load_task(
    name: str,
    seed: int = 0,
    *,
    shots: int = 0,
    template: str | None = None,
    data: Path | None = None,
    framing: Framing = AS_USUAL,
    metric: str = "auto",
    progress: Progress | None = None,
) -> Task:
    """The built-in task `name`, or the task in the JSONL or CSV file at that path, split by `seed`.

    Args:
        name: a key of TASKS, or a path.
        seed: seed of the split.
        shots: how many solved train examples stand in front of every prompt.
        template: another prompt, with the task's placeholders (`{prompt}` for a file).
        data: folder of SuperGLUE's JSON lines, for CB, COPA and RTE; without it they come from the hub.
        framing: whether a BOS token stands in front, and whether the task is asked as a chat.
        metric: what counts as right (see `Task`).
        progress: told (lines read, lines) of a file.

    Raises:
        TaskError: neither a built-in task nor a readable, valid file; a template, a number of shots, a data folder or
            a metric that does not go with it.
    """
    return with_metric(
        _asked(name, seed, shots, template=template, data=data, framing=framing, progress=progress), metric
    )


def with_metric(task: Task, metric: str) -> Task:
    """The task with another metric.

    Raises:
        TaskError: no such metric, or one of choices, which an example has not.
    """
    known: dict[str, AskedMetric] = {one: one for one in METRICS}
    if metric not in known:
        raise TaskError(f"{metric[:40]!r} is not a metric: choose one of {', '.join(METRICS)}.")
    made = replace(task, metric=known[metric])
    for split in SPLITS:
        if getattr(made, split):
            made.metric_of(split)
    return made


def _asked(
    name: str,
    seed: int,
    shots: int,
    template: str | None,
    data: Path | None,
    framing: Framing,
    progress: Progress | None,
) -> Task:
    """A task from the table or from a file."""
    if name in TASKS:
        made = _made(name, seed, template) if data is None else TASKS[name].task(seed, template=template, data=data)
        return with_shots(made.framed(framing), shots)
    path = typed_path(name)
    if path is not None and (path.suffix.lower() in SUFFIXES or path.is_file()):
        if data is not None:
            raise TaskError(f"{path.name} holds its own examples: leave out the data folder {str(data)[:80]!r}.")
        return with_shots(read_file(path, seed, template, progress=progress).framed(framing), shots)
    raise TaskError(
        f"{name[:80]!r} is not a task: choose one of {', '.join(TASKS)}, or give the path of a .jsonl or .csv file."
    )


@lru_cache(maxsize=32)
def _made(name: str, seed: int, template: str | None) -> Task:
    """Tasks are frozen, so whoever asks for the same may share one; failures are not kept."""
    return TASKS[name].task(seed, template=template)
