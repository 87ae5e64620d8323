"""A user's own task: a JSONL file or a CSV file with one example per line, checked line by line.

Fields: `prompt` and `answer` (the text that follows directly, with its leading space, if it has one), and optionally
`choices`, `distractor` and `split`. In JSONL, `choices` is a list of texts; in CSV it is one cell that holds such a
list as JSON, or the texts with `|` between them. An empty cell is a field that is not there.

Lines that are no examples are all counted, and the first LISTED of them named with what is wrong.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from explorer.errors import TaskError
from explorer.tasks import template as templates
from explorer.tasks.base import SPLITS, Example, Task, split_examples

MAX_BYTES, MAX_CHOICES, LISTED = 50_000_000, 100, 5
SUFFIXES = (".jsonl", ".csv")
FIELDS = ("prompt", "answer", "choices", "distractor", "split")
_SAMPLE = '{"prompt": "2 + 2 =", "answer": " 4"}'
_Parsed = tuple[Example, str | None]
_Line = tuple[int, dict[str, Any] | str]  # its number, and its fields or what is wrong with it


def read_file(path: Path, seed: int, template: str | None = None) -> Task:
    """Read a task file, CSV if it is named so, else JSONL; see `parse`.

    Raises:
        TaskError: a file that cannot be read; a line that is not an example, by its number.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise TaskError(f"{path} has {size:,} bytes: task files may have up to {MAX_BYTES:,}; use a sample of it.")
        content = path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check the path.") from None
    return parse(content, name=path.name, seed=seed, template=template)


def parse(content: bytes, *, name: str, seed: int, template: str | None = None) -> Task:
    """Build a task from the bytes of a file called `name`; `template` may put `{prompt}` into other words.

    Either all lines name their split or none does; in the second case the lines are split by `seed`.
    """
    kind = "CSV" if name.lower().endswith(".csv") else "JSON lines"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TaskError(f"{name} is not UTF-8 text: save it as UTF-8 {kind}.") from None
    task = (
        parse_csv(text, name=name, seed=seed) if kind == "CSV" else parse_jsonl(text.split("\n"), name=name, seed=seed)
    )
    return task if template is None else _in_words(task, template)


def parse_jsonl(lines: Iterable[str], *, name: str, seed: int) -> Task:
    """Build a task from JSON lines; blank lines are passed over."""
    return _task(((n, _object(line)) for n, line in enumerate(lines, start=1) if line.strip()), name, seed)


def parse_csv(text: str, *, name: str, seed: int) -> Task:
    """Build a task from CSV with a header line; quoted cells may hold commas and line breaks."""
    return _task(_records(text, name), name, seed)


def _task(lines: Iterable[_Line], name: str, seed: int) -> Task:
    parsed: list[_Parsed] = []
    wrong: list[tuple[int, str]] = []
    for number, row in lines:
        try:
            parsed.append(_example(row))
        except TaskError as error:
            wrong.append((number, str(error)))
    if wrong:
        raise TaskError(_all_wrong(wrong, name))
    if not parsed:
        raise TaskError(f"{name} holds no examples: add lines such as {_SAMPLE}.")
    named = sum(split is not None for _, split in parsed)
    if 0 < named < len(parsed):
        raise TaskError(f"{name} names a split on {named} of {len(parsed)} lines: name it on all of them or on none.")
    description = f"{len(parsed):,} examples from {name}"
    if not named:
        return Task(name, description, *split_examples([example for example, _ in parsed], seed), seed)
    train, validation, test = (tuple(example for example, split in parsed if split == wanted) for wanted in SPLITS)
    return Task(name, description, train, validation, test, seed)


def _all_wrong(wrong: list[tuple[int, str]], name: str) -> str:
    """What is wrong with some lines, in sentences."""
    if len(wrong) == 1:
        return f"{name}, line {wrong[0][0]}: {wrong[0][1]}"
    said = [f"{len(wrong):,} lines of {name} are no examples."]
    said += [f"Line {number}: {what}" for number, what in wrong[:LISTED]]
    more = len(wrong) - LISTED
    return " ".join([*said, f"And {more:,} more."] if more > 0 else said)


def _object(line: str) -> dict[str, Any] | str:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):  # ValueError also for a number of too many digits
        return 'not a JSON object; expected {"prompt": ..., "answer": ...}.'
    if not isinstance(row, dict):
        return f"a {type(row).__name__} instead of an object with `prompt` and `answer`."
    return row


def _records(text: str, name: str) -> Iterator[_Line]:
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header([cell.strip() for cell in cells], f"{name}, line {reader.line_num}")
                continue
            if len(cells) != len(header):
                what = f"{len(cells)} cells where the header has {len(header)}; quote cells with commas."
                yield reader.line_num, what
                continue
            row: dict[str, Any] = {field: cell for field, cell in zip(header, cells, strict=True) if cell}
            if "choices" in row:
                row["choices"] = _listed(row["choices"])
            yield reader.line_num, row
    except csv.Error as error:  # where a quote is wrong, what follows cannot be told apart
        yield reader.line_num, f"not CSV ({error}); check its quotes."


def _header(cells: list[str], where: str) -> list[str]:
    if not {"prompt", "answer"} <= set(cells) or len(set(cells)) < len(cells):
        raise TaskError(f"{where}: the header must name the columns, `prompt` and `answer` among them, each one once.")
    return cells


def _listed(cell: str) -> Any:
    if cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell.split("|")


def _example(row: dict[str, Any] | str) -> _Parsed:
    if isinstance(row, str):
        raise TaskError(row)
    unknown = sorted(set(row) - set(FIELDS))
    if unknown:
        raise TaskError(f"unknown field {unknown[0][:40]!r}; the fields are {', '.join(FIELDS)}.")
    prompt, answer = (_text(row.get(field), field) for field in ("prompt", "answer"))
    distractor = row.get("distractor")
    if distractor is not None:
        distractor = _text(distractor, "distractor")
    choices = row.get("choices")
    if choices is not None:
        if not isinstance(choices, list) or not 2 <= len(choices) <= MAX_CHOICES:
            raise TaskError(f"`choices` must be a list of 2 to {MAX_CHOICES} texts, the answer among them.")
        choices = tuple(_text(choice, "choices") for choice in choices)
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise TaskError(f"split {str(split)[:40]!r} is not known; use one of {', '.join(SPLITS)}.")
    return Example(prompt, answer, choices or (), distractor), split


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TaskError(f"no {field}; give a non-empty text for `{field}`.")
    if not value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TaskError(f"{field} holds half of a surrogate pair; write the whole character.")
    return value


def _in_words(task: Task, template: str) -> Task:
    """The same examples with each prompt put into a template."""
    templates.check(template, ("prompt",))

    def reworded(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(replace(one, prompt=templates.fill(template, {"prompt": one.prompt})) for one in examples)

    train, validation, test = map(reworded, (task.train, task.validation, task.test))
    return replace(task, train=train, validation=validation, test=test, template=template)
