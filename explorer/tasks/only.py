"""One slice of a task: the examples that hold a condition on what is known of them, such as `i=3` or `topic=verbs`.

A condition is a column, a sign and a value: `=` equals (without blanks at the ends), `~` contains (whatever the case),
and `=LOW..HIGH` is a range of numbers, both ends in it. Columns are those of the task (what its template is filled
with, the further columns of a file) and `prompt`, `answer` and `length`, the letters of the prompt without shots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from explorer.core.errors import TaskError
from explorer.tasks.base import SPLITS, Example, Task, Wording

PROMPT, ANSWER, LENGTH = "prompt", "answer", "length"
_CONDITION = re.compile(r"\s*([^=~]+?)\s*([=~])(.*)", re.DOTALL)
_NUMBER = r"(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
_RANGE = re.compile(rf"\s*{_NUMBER}\s*\.\.\s*{_NUMBER}\s*", re.IGNORECASE)
_SHOWN = 5  # values that are named where none fits


@dataclass(frozen=True)
class Condition:
    """What an example must hold.

    Attributes:
        column: of what is known of it.
        sign: `=` or `~`.
        value: a text, or the two ends of a range.
    """

    column: str
    sign: str
    value: str

    @classmethod
    def read(cls, text: str) -> Condition:
        """A condition from its text; raises TaskError for something else."""
        found = _CONDITION.fullmatch(text)
        if found is None or not found[3].strip():
            raise TaskError(f"{text[:60]!r} is no condition: give a column and its value, such as i=3 or prompt~word.")
        return cls(found[1], found[2], found[3].strip())

    def holds(self, example: Example) -> bool:
        """Whether an example holds it; one without the column does not."""
        value = values_of(example).get(self.column)
        if value is None:
            return False
        if self.sign == "~":
            return self.value.lower() in value.lower()
        if (ends := _RANGE.fullmatch(self.value)) is not None and value.strip() != self.value:
            number = as_number(value)
            return number is not None and (as_number(ends[1]) or 0.0) <= number <= (as_number(ends[2]) or 0.0)
        return value.strip() == self.value


def values_of(example: Example) -> Mapping[str, str]:
    """What is known of an example, by column; its prompt is that without shots."""
    found = {PROMPT: example.prompt, **dict(example.columns)}
    return {**found, ANSWER: example.answer, LENGTH: str(len(found[PROMPT]))}


def columns_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """The columns that slices can be made of: the answer, the length, and those that some examples have."""
    own = dict.fromkeys(name for one in examples for name, _ in one.columns if name not in (PROMPT, ANSWER, LENGTH))
    return (ANSWER, LENGTH, *own)


def as_number(text: str) -> float | None:
    """A finite number from its text; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def only(task: Task, text: str | None) -> Task:
    """The task with the examples alone that hold a condition, in every split; the task itself without one.

    Raises:
        TaskError: no condition, or no example of the task holds it.
    """
    if text is None:
        return task
    condition = Condition.read(text)

    def kept(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(filter(condition.holds, examples))

    made = replace(
        task, train=kept(task.train), validation=kept(task.validation), test=kept(task.test),
        cases=replace(task.cases, only=text),
        unseen=tuple(Wording(one.template, kept(one.examples)) for one in task.unseen),
    )  # fmt: skip
    if not any(getattr(made, split) for split in SPLITS):
        raise TaskError(_nothing(task, condition, text))
    return made


def _nothing(task: Task, condition: Condition, text: str) -> str:
    """The sentence for a condition that nothing holds."""
    examples = [one for split in SPLITS for one in getattr(task, split)]
    columns = (PROMPT, *columns_of(examples))
    if condition.column not in columns:
        return f"{task.name} has no column {condition.column[:40]!r} for {text[:60]!r}: it has {', '.join(columns)}."
    known = (values_of(one).get(condition.column) for one in examples)
    values = dict.fromkeys(one.strip() for one in known if one is not None)
    some = ", ".join(repr(one[:40]) for one in list(values)[:_SHOWN])
    return f"no example of {task.name} has {text[:60]!r}: values of {condition.column} are such as {some}."
