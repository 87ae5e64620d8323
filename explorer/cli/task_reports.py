"""What the `tasks` commands print with `--json`: these keys are stable."""

from __future__ import annotations

from typing import TypedDict


class Sample(TypedDict):
    """One example of a task."""

    prompt: str
    answer: str


class TaskEntry(TypedDict):
    """A built-in task.

    `sizes` counts the examples of each split; `sizes` and `sample` are null for a task whose data were not given and
    are not fetched for a list. `placeholders` may be used in another `template`.
    """

    name: str
    description: str
    template: str
    placeholders: list[str]
    needs_data: bool
    sizes: dict[str, int] | None
    sample: Sample | None


class TasksReport(TypedDict):
    """`tasks list`."""

    tasks: list[TaskEntry]


class TokenisedExample(Sample):
    """One example; tokens as the model's tokenizer cuts them, null without a model, `problem` says why it cannot."""

    choices: list[str]
    distractor: str | None
    prompt_tokens: list[str] | None
    answer_tokens: list[str] | None
    problem: str | None


class TaskReport(TypedDict):
    """`tasks show`: the first examples of a split of `n`."""

    task: str
    description: str
    task_digest: str
    shots: int
    template: str | None
    bos: str
    chat: bool
    system: str | None
    split: str
    seed: int
    n: int
    examples: list[TokenisedExample]


class Answers(TypedDict):
    """How often an answer is the right one in a split; `majority` is the accuracy of always giving the most common."""

    distinct: int
    most_common: str
    majority: float


class Problem(TypedDict):
    """An example that the model cannot take, by its number (from 0) in its split."""

    split: str
    index: int
    problem: str


class ValidateReport(TypedDict):
    """`tasks validate`: `seen` counts prompts that an earlier split has, `notices` says what is probably not meant.

    The last keys are null without a model.

    `longest` is the longest example in tokens, of which the model reads `context`; `unknown` is, per split, the share
    of the prompts that the tokenizer does not know.
    """

    task: str
    description: str
    task_digest: str
    shots: int
    template: str | None
    bos: str
    chat: bool
    system: str | None
    seed: int
    sizes: dict[str, int]
    seen: dict[str, int]
    with_choices: dict[str, int]
    with_distractor: dict[str, int]
    answers: dict[str, Answers | None]
    notices: list[str]
    longest: int | None
    context: int | None
    unknown: dict[str, float] | None
    problems: list[Problem] | None
