"""Which examples were seen in a search: asked there themselves, by their twins, or with the same answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from explorer.tasks.base import Example, Task


@dataclass(frozen=True)
class SeenExamples:
    """What a search that read some examples has seen of others, one entry for each of these.

    Attributes:
        prompts: whether it read the same case, in whatever wording.
        twins: whether it read a twin: another case that shares the answer by symmetry.
        answers: whether it read another case with the same answer; never where there are choices, whose answers are
            few.
    """

    prompts: tuple[bool, ...]
    twins: tuple[bool, ...]
    answers: tuple[bool, ...]

    @cached_property
    def new_cases(self) -> tuple[int, ...]:
        """Places of the examples of which neither the case nor a twin was read."""
        pairs = zip(self.prompts, self.twins, strict=True)
        return tuple(place for place, seen in enumerate(pairs) if not any(seen))

    @cached_property
    def new_answers(self) -> tuple[int, ...]:
        """Those of them whose answer was not read, either."""
        return tuple(place for place in self.new_cases if not self.answers[place])


def seen(read: Sequence[Example], examples: Sequence[Example]) -> SeenExamples:
    """What a search that read some examples has seen of others."""
    items: dict[str, set[str]] = defaultdict(set)
    for one in read:
        items[one.case.twins].add(one.case.item)
    known = {item for group in items.values() for item in group}
    answers = {one.answer.strip() for one in read}
    cases = [one.case for one in examples]
    return SeenExamples(
        prompts=tuple(case.item in known for case in cases),
        twins=tuple(bool(items.get(case.twins, set()) - {case.item}) for case in cases),
        answers=tuple(not one.choices and one.answer.strip() in answers for one in examples),
    )


def read_in_search(task: Task, limit: int | None = None) -> tuple[Example, ...]:
    """What a search on a task reads: the train examples that it scores or shows, and the validation examples."""
    scored = task.train if limit is None else task.train[: max(limit, task.shots + 1)]
    return (*scored, *task.validation)
