"""A user's own task: one JSON object per line with `prompt`, `answer` and optionally `split`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from explorer.errors import TaskError
from explorer.tasks.base import SPLITS, Example, Task, split_examples

MAX_BYTES = 50_000_000
_FIELDS = ("prompt", "answer", "split")


def read_jsonl(path: Path, seed: int) -> Task:
    """Read a task file; every problem is reported with its line number.

    Either all lines name their split or none does; in the second case the lines are split by `seed`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise TaskError(f"{path} has {size:,} bytes: task files may have up to {MAX_BYTES:,}; use a sample of it.")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TaskError(f"{path} is not UTF-8 text: save it as UTF-8 JSON lines.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check the path.") from None
    return parse_jsonl(text.split("\n"), name=path.name, seed=seed)


def parse_jsonl(lines: Iterable[str], *, name: str, seed: int) -> Task:
    """Build a task from JSON lines; blank lines are passed over."""
    rows = [_row(line, f"{name}, line {n}") for n, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise TaskError(f'{name} holds no examples: add lines such as {{"prompt": "2 + 2 =", "answer": " 4"}}.')
    named = [split for _, split in rows if split is not None]
    if named and len(named) != len(rows):
        raise TaskError(
            f"{name} names a split on {len(named)} of {len(rows)} lines: name it on all of them or on none."
        )
    description = f"{len(rows):,} examples from {name}"
    if not named:
        return Task(name, description, *split_examples([example for example, _ in rows], seed), seed)
    train, validation, test = (tuple(example for example, split in rows if split == wanted) for wanted in SPLITS)
    return Task(name, description, train, validation, test, seed)


def _row(line: str, where: str) -> tuple[Example, str | None]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):  # ValueError also for a number of too many digits
        raise TaskError(f'{where}: not a JSON object; expected {{"prompt": ..., "answer": ...}}.') from None
    if not isinstance(row, dict):
        raise TaskError(f"{where}: a {type(row).__name__} instead of an object with `prompt` and `answer`.")
    unknown = sorted(set(row) - set(_FIELDS))
    if unknown:
        raise TaskError(f"{where}: unknown field {unknown[0][:40]!r}; the fields are {', '.join(_FIELDS)}.")
    for field in ("prompt", "answer"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise TaskError(f"{where}: no {field}; give a non-empty text for `{field}`.")
        if not row[field].isprintable() and any("\ud800" <= letter <= "\udfff" for letter in row[field]):
            raise TaskError(f"{where}: {field} holds half of a surrogate pair; write the whole character.")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise TaskError(f"{where}: split {str(split)[:40]!r} is not known; use one of {', '.join(SPLITS)}.")
    return Example(row["prompt"], row["answer"]), split
