"""Few-shot prompts: the same train examples in front of every prompt, so that a model reads them once."""

from __future__ import annotations

from dataclasses import replace

from explorer.core.errors import TaskError
from explorer.tasks.base import Example, Task, same_text

MOST_SHOTS = 64


def with_shots(task: Task, count: int) -> Task:
    """The task with `count` solved train examples in front of every prompt, the example itself never among them.

    The first train examples whose prompts differ, and occur in no other split, are taken, the same for all; one of
    them that is asked itself has the next one in its place. They are set apart by a line break, or by an empty line
    where prompts have several lines; in a chat they are earlier turns of the user and the assistant.

    Raises:
        TaskError: a count out of range, a task that has shots already, or too few train examples.
    """
    if not 0 <= count <= MOST_SHOTS:
        raise TaskError(f"{count} shots cannot be given: choose 0 to {MOST_SHOTS}.")
    if count == 0:
        return task
    if task.shots:
        raise TaskError(f"{task.name} has {task.shots} shots already: start from the task without shots.")
    shown = _candidates(task, count)
    several = any("\n" in example.prompt for example in (*task.train, *task.validation, *task.test))
    between = "\n\n" if several else "\n"

    def ask(example: Example) -> Example:
        solved = [one for one in shown if same_text(one.prompt) != same_text(example.prompt)][:count]
        if task.framing.chat:
            return replace(example, shown=tuple((one.prompt, one.answer) for one in solved), origin=example.case)
        front = "".join(one.prompt + one.answer + between for one in solved)
        columns = (*example.columns, ("prompt", example.prompt))  # slices are of the prompt without shots
        return replace(example.asked(front + example.prompt), columns=columns)

    train, validation, test = (tuple(map(ask, part)) for part in (task.train, task.validation, task.test))
    unseen = tuple(replace(one, examples=tuple(map(ask, one.examples))) for one in task.unseen)
    return replace(task, train=train, validation=validation, test=test, unseen=unseen, shots=count)


def _candidates(task: Task, count: int) -> list[Example]:
    """One more than are shown, so that each of them has a stand-in."""
    held_out = {same_text(example.prompt) for example in (*task.validation, *task.test)}
    found: dict[str, Example] = {}
    for example in task.train:
        if same_text(example.prompt) not in held_out:
            found.setdefault(same_text(example.prompt), example)
        if len(found) > count:
            return list(found.values())
    raise TaskError(
        f"{task.name} has {len(found):,} different train prompts that are in no other split: {count} shots need "
        f"{count + 1}; take fewer shots or add train examples."
    )
