"""How a built-in task is made: rows of values in splits, a prompt template, and what comes out of the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explorer.core.errors import TaskError
from explorer.tasks import template as templates
from explorer.tasks.base import Example, Splits, Task, split_items


@dataclass(frozen=True)
class Row:
    """What an example says, before it is put into words.

    Attributes:
        values: text for each placeholder of the task's template.
        template: the example's own default template, for tasks that have several; None for the task's.
    """

    values: Mapping[str, str]
    answer: str
    choices: tuple[str, ...] = ()
    distractor: str | None = None
    template: str | None = None


@dataclass(frozen=True)
class TaskSpec:
    """An entry of the TASKS table.

    Attributes:
        template: the default prompt; its placeholders are those that another template may use.
        placeholders: their names.
        read: makes the rows, in splits, from the seed and, if `needs_data`, from a folder (None: from the hub).
        bos: whether it wants a beginning-of-sequence token in front.
        needs_data: whether the rows come from elsewhere, so that they may not be there.
        chosen: whether each row has choices.
    """

    name: str
    description: str
    template: str
    placeholders: tuple[str, ...]
    read: Callable[[int, Path | None], Splits[Row]]
    bos: bool = True
    needs_data: bool = False
    chosen: bool = False

    def task(self, seed: int, *, template: str | None = None, data: Path | None = None) -> Task:
        """The task, split by `seed`, in its own words or in those of `template`.

        Raises:
            TaskError: a template that cannot be filled or that makes different examples look the same, or data that
                is not there.
        """
        if template is not None:
            templates.check(template, self.placeholders)
        if data is not None and not self.needs_data:
            raise TaskError(f"{self.name} is made without data: leave out the data folder {str(data)[:80]!r}.")
        splits = self.read(seed, data)
        if template is not None:
            self._refuse_ambiguous([row for rows in splits for row in rows], template)
        train, validation, test = (tuple(self._example(row, template) for row in rows) for rows in splits)
        return Task(
            self.name,
            self.description,
            train,
            validation=validation,
            test=test,
            seed=seed,
            bos=self.bos,
            template=template,
        )

    def _example(self, row: Row, template: str | None) -> Example:
        text = templates.fill(template or row.template or self.template, row.values)
        return Example(text, row.answer, row.choices, distractor=row.distractor)

    def _refuse_ambiguous(self, rows: Sequence[Row], template: str) -> None:
        """Raise TaskError if rows that the task tells apart become one prompt: the answer would not be determined."""
        own = len({self._example(row, None).prompt for row in rows})
        found = len({self._example(row, template).prompt for row in rows})
        if found < own:
            named = ", ".join(f"{{{name}}}" for name in self.placeholders)
            raise TaskError(
                f"the template {template[:60]!r} makes {found:,} prompts of {own:,} different examples: "
                f"use more of {named}."
            )


def split_rows(rows: Sequence[Row], seed: int) -> Splits[Row]:
    """Rows in splits by `seed`, whatever template they are put into; rows with equal values stay together."""
    return split_items(rows, seed, lambda row: tuple(row.values.items()))
