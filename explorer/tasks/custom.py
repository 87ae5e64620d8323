"""A user's own task: a JSONL file or a CSV file with one example per line, checked line by line.

Fields: `prompt` and `answer` (the text that follows directly, with its leading space, if it has one), and optionally
`choices`, `distractor`, `split` and `group`: lines of one group stay in one split. Further fields, texts or numbers,
are read by no model: slices are made of them (`explorer.tasks.only`). In JSONL, `choices` is a list of texts; in CSV it
is one cell that holds such a list as JSON, or the texts with `|` between them. An empty cell is a field that is not
there.

Lines that are no examples are all counted, and the first LISTED of them named with what is wrong.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from itertools import repeat
from pathlib import Path
from typing import Any

from explorer.core.errors import TaskError
from explorer.core.files import ordinary
from explorer.core.progress import Progress
from explorer.tasks import template as templates
from explorer.tasks.base import SPLITS, Example, Origin, Task, same_text, split_examples
from explorer.tasks.cases import USUAL_CASES, Cases
from explorer.tasks.lines import Fields, Part, Plain, csv_parts, json_parts

MAX_BYTES, MAX_CHOICES, LISTED = 200_000_000, 100, 5
SUFFIXES = (".jsonl", ".csv")
FIELDS = ("prompt", "answer", "choices", "distractor", "split", "group")
TAKEN = frozenset({"length", "before"})  # what slices say of every example themselves
_SAMPLE = '{"prompt": "2 + 2 =", "answer": " 4"}'
_Parsed = tuple[Example, str | None]
_FIELDS = frozenset(FIELDS)


def read_file(
    path: Path,
    seed: int,
    template: str | None = None,
    progress: Progress | None = None,
    *,
    cases: Cases = USUAL_CASES,
) -> Task:
    """Read a task file, CSV if it is named so, else JSONL; see `parse`.

    Raises:
        TaskError: a file that cannot be read; a line that is not an example, by its number.
    """
    content = file_content(path)
    return parse(content, name=path.name, seed=seed, template=template, progress=progress, cases=cases)


def file_content(path: Path) -> bytes:
    """The bytes of a task file.

    Raises:
        TaskError: a file that cannot be read, or a larger one than task files may be.
    """
    try:
        size = ordinary(path).stat().st_size
        if size > MAX_BYTES:
            raise TaskError(f"{path} has {size:,} bytes: task files may have up to {MAX_BYTES:,}; use a sample of it.")
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check the path.") from None


def parse(
    content: bytes,
    *,
    name: str,
    seed: int,
    template: str | None = None,
    progress: Progress | None = None,
    cases: Cases = USUAL_CASES,
) -> Task:
    """Build a task from the bytes of a file called `name`; `template` may put `{prompt}` into other words.

    Either all lines name their split or none does; in the second case the lines are split by `seed`. `progress` is told
    (lines read, lines). A CSV file with the columns `input` and `output` is a relation (`explorer.tasks.relations`).
    """
    text = file_text(content, name)
    if cases.wordings > 1:
        raise TaskError(f"{name} has one wording: leave out the number of wordings, or give a template.")
    csv = name.lower().endswith(".csv")
    parts = csv_parts(text, name) if csv else json_parts(text.split("\n"))
    task = _task(_told(parts, text.count("\n") + 1, progress), name, seed, cases=cases)
    return task if template is None else _in_words(task, template)


def file_text(content: bytes, name: str) -> str:
    """The text of a task file.

    Raises:
        TaskError: it is not UTF-8.
    """
    kind = "CSV" if name.lower().endswith(".csv") else "JSON lines"
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TaskError(f"{name} is not UTF-8 text: save it as UTF-8 {kind}.") from None


def parse_jsonl(lines: Iterable[str], *, name: str, seed: int) -> Task:
    """Build a task from JSON lines; blank lines are passed over."""
    return _task(json_parts(lines), name, seed)


def _told(parts: Iterator[Part], lines: int, progress: Progress | None) -> Iterator[Part]:
    """The parts, telling `progress` after each of them how far they are."""
    if progress is None:
        yield from parts
        return
    progress(0, lines)
    for part in parts:
        yield part
        if part:
            progress(min(part.last if isinstance(part, Plain) else part[-1][0], lines), lines)
    progress(lines, lines)


def _task(parts: Iterable[Part], name: str, seed: int, *, cases: Cases = USUAL_CASES) -> Task:
    with _no_collection():
        parsed, wrong = _examples(parts)
        if wrong:
            raise TaskError(_all_wrong(wrong, name))
        if not parsed:
            raise TaskError(f"{name} holds no examples: add lines such as {_SAMPLE}.")
        named = sum(split is not None for _, split in parsed)
        if 0 < named < len(parsed):
            raise TaskError(
                f"{name} names a split on {named} of {len(parsed)} lines: name it on all of them or on none."
            )
        columns = dict.fromkeys(column for example, _ in parsed for column, _ in example.columns)
        further = f", with {', '.join(columns)}" if columns else ""
        description = f"{len(parsed):,} examples from {name}{further}"
        if not named:
            splits = split_examples([example for example, _ in parsed], seed, cases)
            return Task(name, description, *splits, seed, cases=cases)
        if cases.hold_out is not None:
            raise TaskError(f"{name} names its splits itself: {cases.hold_out} cannot be held out of them.")
        train, validation, test = (tuple(example for example, split in parsed if split == wanted) for wanted in SPLITS)
        return Task(name, description, train, validation=validation, test=test, seed=seed)


def _examples(parts: Iterable[Part]) -> tuple[list[_Parsed], list[tuple[int, str]]]:
    """What could be read, and what is wrong on which line."""
    parsed: list[_Parsed] = []
    wrong: list[tuple[int, str]] = []
    for part in parts:
        if isinstance(part, Plain):
            parsed.extend(zip(map(Example, part.prompts, part.answers), repeat(None)))
            continue
        for number, row in part:
            try:
                parsed.append(_example(row))
            except TaskError as error:
                wrong.append((number, str(error)))
    return parsed, wrong


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection, which would look through all examples again and again while they are made."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _all_wrong(wrong: list[tuple[int, str]], name: str) -> str:
    """What is wrong with some lines, in sentences."""
    if len(wrong) == 1:
        return f"{name}, line {wrong[0][0]}: {wrong[0][1]}"
    said = [f"{len(wrong):,} lines of {name} are no examples."]
    said += [f"Line {number}: {what}" for number, what in wrong[:LISTED]]
    more = len(wrong) - LISTED
    return " ".join([*said, f"And {more:,} more."] if more > 0 else said)


def _example(row: Fields | str) -> _Parsed:
    if isinstance(row, str):
        raise TaskError(row)
    columns = () if row.keys() <= _FIELDS else tuple(_columns(row))
    prompt, answer = _text(row.get("prompt"), "prompt"), _text(row.get("answer"), "answer")
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
    group = row.get("group")
    origin = None if group is None else Origin(same_text(prompt), f"group {_text(group, 'group')}")
    return Example(prompt, answer, choices or (), distractor=distractor, origin=origin, columns=columns), split


def _columns(row: Fields) -> Iterator[tuple[str, str]]:
    """The further fields of a line; one that is nearly called like a field is a slip."""
    for name in sorted(row.keys() - _FIELDS):
        value = row[name]
        if near := get_close_matches(name.strip().lower(), FIELDS, n=1, cutoff=0.75):
            raise TaskError(f"unknown field {name[:40]!r}: write `{near[0]}` if that is meant, or call it otherwise.")
        if not name.strip() or set("=~") & set(name):
            raise TaskError(f"a field cannot be called {name[:40]!r}: leave out = and ~.")
        if name.strip() in TAKEN:
            raise TaskError(f"a field cannot be called {name[:40]!r}: every example has that; rename the column.")
        if value is not None and not isinstance(value, str | int | float):
            raise TaskError(f"the field {name[:40]!r} is no text and no number: write one of them, or leave it out.")
        if value is not None:
            yield name.strip(), str(value).lower() if isinstance(value, bool) else str(value)


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool | int | float):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        raise TaskError(
            f'the {field} {shown[:40]} is no text; write it in quotes, with its leading space: " {shown[:40]}".'
        )
    if not isinstance(value, str) or not value or value.isspace():
        raise TaskError(f"no {field}; give a non-empty text for `{field}`.")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TaskError(f"{field} holds half of a surrogate pair; write the whole character.")
    return value


def _in_words(task: Task, template: str) -> Task:
    """The same examples with each prompt put into a template."""
    templates.check(template, ("prompt",))

    def reworded(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(one.asked(templates.fill(template, {"prompt": one.prompt})) for one in examples)

    train, validation, test = map(reworded, (task.train, task.validation, task.test))
    return replace(task, train=train, validation=validation, test=test, template=template)
