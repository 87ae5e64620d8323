"""How a built-in task is made: rows of values in splits, a prompt template, and what comes out of the two."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explorer.core.errors import TaskError
from explorer.tasks import template as templates
from explorer.tasks.base import Example, Origin, Task, Wording
from explorer.tasks.cases import USUAL_CASES, Cases, Splits, split_by_operands, split_items, split_related


@dataclass(frozen=True)
class Row:
    """What an example says, before it is put into words.

    Attributes:
        values: text for each placeholder of the task's template.
        template: the example's own default template, for tasks that have several; None for the task's.
        item: which case it is, if that is not told by its values.
        twins: what cases that share its answer by symmetry have in common; nothing if there are none.
        operands: what the case is about and can be held out, such as two numbers.
    """

    values: Mapping[str, str]
    answer: str
    choices: tuple[str, ...] = ()
    distractor: str | None = None
    template: str | None = None
    item: str = ""
    twins: str = ""
    operands: tuple[str, ...] = ()

    @property
    def origin(self) -> Origin:
        """Which case it is."""
        item = self.item or repr(tuple(self.values.items()))
        return Origin(item, self.twins or item)


@dataclass(frozen=True)
class Cut:
    """How rows are cut into splits: by which seed and which rule."""

    seed: int
    cases: Cases = USUAL_CASES

    def rows(self, rows: Sequence[Row]) -> Splits[Row]:
        """Rows in splits, whatever template they are put into; rows with equal values stay together.

        Raises:
            TaskError: there is too little to hold out.
        """
        if self.cases.hold_out == "operands":
            if not all(row.operands for row in rows):
                raise TaskError("this task has no operands that could be held out: hold out something else.")
            return split_by_operands(rows, self.seed, lambda row: row.operands)
        if self.cases.hold_out == "answers":
            return split_related(
                rows, self.seed, lambda row: (("answer", row.answer), row.origin.twins), what="answers"
            )
        if self.cases.splits == "published" or len({row.origin.twins for row in rows}) == len(rows):
            return split_items(rows, self.seed, lambda row: tuple(row.values.items()))
        parts = split_items(rows, self.seed, lambda row: row.origin.twins)
        return self._mixed(parts[0]), self._mixed(parts[1]), self._mixed(parts[2])

    def _mixed(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """In another order, in which twins do not follow each other: the first rows are a sample."""
        order = list(rows)
        random.Random(self.seed).shuffle(order)
        return tuple(order)


@dataclass(frozen=True)
class TaskSpec:
    """An entry of the TASKS table.

    Attributes:
        template: the default prompt; its placeholders are those that another template may use.
        placeholders: their names.
        read: makes the rows, in splits, from the cut and, if `needs_data`, from a folder (None: from the hub).
        wordings: further templates that searches may use.
        unseen: templates that no search uses: test cases are asked in them if wordings are held out.
        bos: whether it wants a beginning-of-sequence token in front.
        needs_data: whether the rows come from elsewhere, so that they may not be there.
        comes_split: whether they come in splits, so that nothing can be held out of them.
        chosen: whether each row has choices.
        symmetric: whether some of its cases are twins, so that the published splits are other ones.
    """

    name: str
    description: str
    template: str
    placeholders: tuple[str, ...]
    read: Callable[[Cut, Path | None], Splits[Row]]
    wordings: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    bos: bool = True
    needs_data: bool = False
    comes_split: bool = False
    chosen: bool = False
    symmetric: bool = False

    @property
    def searched(self) -> tuple[str, ...]:
        """All templates that searches may use, its own first."""
        return (self.template, *self.wordings)

    def task(
        self, seed: int, *, template: str | None = None, data: Path | None = None, cases: Cases = USUAL_CASES
    ) -> Task:
        """The task, split by `seed`, in its own words or in those of `template`.

        Raises:
            TaskError: a template that cannot be filled or that makes different examples look the same, data that is not
                there, or cases that the task does not have.
        """
        if template is not None:
            templates.check(template, self.placeholders)
        if data is not None and not self.needs_data:
            raise TaskError(f"{self.name} is made without data: leave out the data folder {str(data)[:80]!r}.")
        asked, tested = self._templates(template, cases)
        train, validation, test = self.read(Cut(seed, cases), data)
        rows = [*train, *validation, *test]
        for one in dict.fromkeys((*asked, *tested)):
            self._refuse_ambiguous(rows, one)
        return Task(
            self.name,
            self.description,
            self._examples(train, asked),
            validation=self._examples(validation, asked),
            test=self._examples(test, tested),
            seed=seed,
            bos=self.bos,
            template=template,
            cases=cases,
            unseen=tuple(Wording(one, self._examples(test, (one,))) for one in self.unseen if one != template),
        )

    def _templates(self, template: str | None, cases: Cases) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The templates of train and validation cases, and those of test cases; none for the rows' own."""
        if cases.hold_out in ("operands", "answers") and self.comes_split:
            raise TaskError(f"{self.name} comes in splits of its own: {cases.hold_out} cannot be held out of them.")
        if cases.wordings > 1 and template is not None:
            raise TaskError("a template is one wording: leave out the template, or the number of wordings.")
        if cases.wordings > len(self.searched):
            raise TaskError(
                f"searches can use {len(self.searched)} of the wordings of {self.name}, not {cases.wordings}: take at "
                "most so many."
            )
        if cases.hold_out != "wordings":
            own = () if template is None else (template,)
            asked = self.searched[: cases.wordings] if cases.wordings > 1 else own
            return asked, asked
        unseen = tuple(one for one in self.unseen if one != template)
        if not unseen:
            raise TaskError(f"{self.name} has no wording to hold out: hold out something else.")
        return self.searched[: cases.wordings] if template is None else (template,), unseen

    def _examples(self, rows: Sequence[Row], asked: Sequence[str]) -> tuple[Example, ...]:
        """Rows in words; of several templates each row has one, in turn, so that no case counts twice."""
        return tuple(self._example(row, asked[place % len(asked)] if asked else None) for place, row in enumerate(rows))

    def _example(self, row: Row, template: str | None) -> Example:
        text = templates.fill(template or row.template or self.template, row.values)
        return Example(
            text,
            row.answer,
            row.choices,
            distractor=row.distractor,
            origin=row.origin,
            columns=tuple(row.values.items()),
        )

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
