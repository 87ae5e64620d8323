"""Tasks as text: examples in splits, one table of the built-in ones, and files: JSONL, CSV, the harness' YAML."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypedDict, Unpack

from explorer.core.errors import TaskError
from explorer.core.files import typed_path
from explorer.core.progress import Progress
from explorer.tasks.arithmetic import INT_MULT, INT_MULT_12, INT_SUM
from explorer.tasks.base import SPLITS, Example, Task, Wording
from explorer.tasks.capitals import COUNTRY_CAPITALS
from explorer.tasks.cases import HELD_OUT, SPLIT_RULES, USUAL_CASES, Cases, as_cases
from explorer.tasks.custom import SUFFIXES as LINE_SUFFIXES
from explorer.tasks.custom import parse, parse_jsonl, read_file
from explorer.tasks.framing import AS_USUAL, BOS_RULES, Framing, as_framing
from explorer.tasks.greater_than import GREATER_THAN
from explorer.tasks.harness import PREFIX as HARNESS_PREFIX
from explorer.tasks.harness import SUFFIXES as HARNESS_SUFFIXES
from explorer.tasks.harness import Shown, is_harness, parse_harness, read_harness
from explorer.tasks.induction import INDUCTION
from explorer.tasks.ioi import IOI
from explorer.tasks.metric import METRICS, AskedMetric, Metric
from explorer.tasks.only import only
from explorer.tasks.relations import KNOWN, PREFIX, is_relation, is_relation_file, parse_relation, read_relation
from explorer.tasks.seen import SeenExamples, read_in_search, seen
from explorer.tasks.shots import MOST_SHOTS, with_shots
from explorer.tasks.spec import TaskSpec
from explorer.tasks.superglue import CB, COPA, RTE

__all__ = [
    "AS_USUAL",
    "BOS_RULES",
    "HELD_OUT",
    "METRICS",
    "MOST_SHOTS",
    "SPLITS",
    "SPLIT_RULES",
    "SUFFIXES",
    "TASKS",
    "USUAL_CASES",
    "AskedMetric",
    "Asking",
    "Cases",
    "Example",
    "Framing",
    "Metric",
    "SeenExamples",
    "Shown",
    "Task",
    "TaskSpec",
    "Wording",
    "as_asked",
    "as_cases",
    "as_framing",
    "is_harness",
    "is_relation",
    "load_task",
    "only",
    "parse",
    "parse_harness",
    "parse_jsonl",
    "parse_relation",
    "read_file",
    "read_in_search",
    "seen",
    "takes_data",
    "with_metric",
    "with_shots",
]

SUFFIXES = (*LINE_SUFFIXES, *HARNESS_SUFFIXES)
_SPECS = (INT_SUM, INT_MULT, INT_MULT_12, CB, COPA, RTE, IOI, GREATER_THAN, COUNTRY_CAPITALS, INDUCTION)
TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in _SPECS}


class Asking(TypedDict, total=False):
    """How `load_task` asks a task.

    Attributes:
        shots: how many solved train examples stand in front of every prompt; none if not given.
        template: another prompt, with the task's placeholders (`{prompt}` for a file, `{input}` for a relation).
        framing: whether a BOS token stands in front, and whether the task is asked as a chat.
        metric: what counts as right (see `Task`); `auto` if not given.
        cases: which cases share a split, what is held out, and in how many wordings they are asked.
    """

    shots: int
    template: str | None
    framing: Framing
    metric: str
    cases: Cases


_USUAL: Asking = {"shots": 0, "template": None, "framing": AS_USUAL, "metric": "auto", "cases": USUAL_CASES}


def load_task(
    name: str,
    seed: int = 0,
    *,
    data: Path | None = None,
    progress: Progress | None = None,
    **how: Unpack[Asking],
) -> Task:
    """The built-in task `name`, or the task in the file at that path (JSONL, CSV, YAML), split by `seed`.

    Args:
        name: a key of TASKS, a path, `relation:` with the path of a CSV file or the name of a known relation, or
            `lm-eval:` with the name of a task of the lm-evaluation-harness; YAML files are such tasks, too.
        seed: seed of the split.
        data: folder of SuperGLUE's JSON lines, for CB, COPA and RTE (without it they come from the hub), or of known
            relations (without it they are those that were fetched).
        progress: told (lines read, lines) of a file.
        how: see `Asking`.

    Raises:
        TaskError: neither a built-in task nor a readable, valid file; a template, a number of shots, a data folder,
            cases or a metric that do not go with it.
    """
    asked: Asking = {**_USUAL, **how}
    task = _read(name, seed, asked, data=data, progress=progress)
    return as_asked(only(task, asked["cases"].only), asked["framing"], asked["shots"], metric=asked["metric"])


def as_asked(task: Task, framing: Framing, shots: int, *, metric: str) -> Task:
    """The task in a framing, with shots, if it has none of its own, and with a metric.

    Raises:
        TaskError: one of them does not go with it.
    """
    if not is_harness(task.name):
        return with_metric(with_shots(task.framed(framing), shots), metric)
    if framing.chat:
        raise TaskError(f"{task.name} is asked as the lm-evaluation-harness asks it, not as a chat: leave that out.")
    return with_metric(replace(task, framing=framing), metric)  # its prompts hold their shots


def takes_data(name: str) -> bool:
    """Whether a task can be read from a folder of data."""
    return TASKS[name].needs_data if name in TASKS else name.removeprefix(PREFIX) in KNOWN


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


def _read(name: str, seed: int, asked: Asking, *, data: Path | None, progress: Progress | None) -> Task:
    """A task from the table or from a file, without framing and shots."""
    template, cases = asked["template"], asked["cases"]
    if name in TASKS:
        if data is None:
            return _made(name, seed, template, cases=cases)
        return TASKS[name].task(seed, template=template, data=data, cases=cases)
    if is_harness(name):
        if data is not None:
            raise TaskError(f"{name[:80]} says itself where its data are: leave out the data folder.")
        return read_harness(name, seed, Shown(asked["shots"], template, cases, progress=progress))
    if name.startswith(PREFIX):
        return read_relation(name.removeprefix(PREFIX), seed, template=template, data=data, cases=cases)
    path = typed_path(name)
    if path is not None and (path.suffix.lower() in LINE_SUFFIXES or path.is_file()):
        if data is not None:
            raise TaskError(f"{path.name} holds its own examples: leave out the data folder {str(data)[:80]!r}.")
        if is_relation_file(path):
            return read_relation(name, seed, template=template, cases=cases)
        return read_file(path, seed, template, progress=progress, cases=cases)
    raise TaskError(
        f"{name[:80]!r} is not a task: choose one of {', '.join(TASKS)}, or give the path of a .jsonl or .csv file, "
        f"{PREFIX}FILE.csv, {HARNESS_PREFIX}NAME or the .yaml file of a task of the lm-evaluation-harness."
    )


@lru_cache(maxsize=32)
def _made(name: str, seed: int, template: str | None, *, cases: Cases) -> Task:
    """Tasks are frozen, so whoever asks for the same may share one; failures are not kept."""
    return TASKS[name].task(seed, template=template, cases=cases)
