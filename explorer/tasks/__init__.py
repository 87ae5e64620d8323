"""Tasks as text: examples in splits, one table of the built-in ones, and JSONL files."""

from __future__ import annotations

from collections.abc import Callable

from explorer.errors import TaskError
from explorer.files import typed_path
from explorer.tasks.arithmetic import int_mult, int_sum
from explorer.tasks.base import SPLITS, Example, Task
from explorer.tasks.jsonl import parse_jsonl, read_jsonl

__all__ = ["SPLITS", "TASKS", "Example", "Task", "load_task", "parse_jsonl", "read_jsonl"]

TASKS: dict[str, Callable[[int], Task]] = {"int-sum": int_sum, "int-mult": int_mult}


def load_task(name: str, seed: int = 0) -> Task:
    """The built-in task `name`, or the task in the JSONL file at that path, split by `seed`.

    Raises:
        TaskError: neither a built-in task nor a readable, valid file.
    """
    if name in TASKS:
        return TASKS[name](seed)
    path = typed_path(name)
    if path is not None and (path.suffix == ".jsonl" or path.is_file()):
        return read_jsonl(path, seed)
    raise TaskError(
        f"{name[:80]!r} is not a task: choose one of {', '.join(TASKS)}, or give the path of a .jsonl file."
    )
