"""The `tasks` commands for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.actions.tasks import (
    FetchedTasks,
    FetchTasks,
    ListTasks,
    ShowTask,
    TaskResult,
    TasksResult,
    ValidateResult,
    ValidateTask,
)
from explorer.cli.console import notice, say, show_table
from explorer.core.texts import percent
from explorer.tasks import SPLITS

_PROBLEMS = 5


def show_tasks(request: ListTasks, result: TasksResult) -> None:
    """Print a table of the tasks."""
    rows = [(one["name"], one["description"], _sizes(one["sizes"]), repr(one["template"])) for one in result.tasks]
    show_table("Tasks", ("name", "description", " / ".join(SPLITS), "template"), rows)
    if request.data is None:
        say("cb, copa and rte come from the hub when they are used, or from --data DIR with SuperGLUE's JSON lines.")
        say("Word pairs, such as relation:present-past, come with eigenprune tasks fetch relations.")


def show_fetched(request: FetchTasks, result: FetchedTasks) -> None:
    """Print what is there now."""
    show_table("Tasks that are here now", ("task", "pairs"), result.pairs.items())
    say(f"They are in {result.folder}")


def _sizes(sizes: Mapping[str, int] | None) -> str:
    return "" if sizes is None else " / ".join(f"{size:,}" for size in sizes.values())


def show_task(request: ShowTask, result: TaskResult) -> None:
    """Print examples."""
    say(f"{result.task}: {result.description}; {result.n:,} in the {result.split} split, seed {result.seed}")
    for number, one in enumerate(result.examples):
        _show_example(number, one)


def _show_example(number: int, one: Mapping[str, Any]) -> None:
    say(f"\n{number}. {one['prompt']!r} -> {one['answer']!r}")
    if one["choices"]:
        say(f"   choices: {', '.join(map(repr, one['choices']))}")
    if one["distractor"] is not None:
        say(f"   distractor: {one['distractor']!r}")
    if one["prompt_tokens"] is not None and one["answer_tokens"] is not None:
        cut = " ".join(map(repr, one["prompt_tokens"])), " ".join(map(repr, one["answer_tokens"]))
        say(f"   {len(one['prompt_tokens'])} + {len(one['answer_tokens'])} tokens: {cut[0]}  |  {cut[1]}")
    if one["problem"] is not None:
        say(f"   problem: {one['problem']}")


def show_validated(request: ValidateTask, result: ValidateResult) -> None:
    """Print what each split holds, and what the model cannot take."""
    say(f"{result.task}: {result.description}, seed {result.seed}")
    for split in SPLITS:
        figures = [f"{result.sizes[split]:,} examples"]
        if (answers := result.answers[split]) is not None:
            most = f"{answers['most_common']!r} in {percent(answers['majority'])}"
            figures += [f"{answers['distinct']:,} different answers", most]
        counts = (result.with_choices, result.with_distractor, result.seen)
        words = ("with choices", "with distractor", "in an earlier split")
        figures += [f"{count[split]:,} {word}" for count, word in zip(counts, words, strict=True) if count[split]]
        say(f"  {split}: {', '.join(figures)}")
    if result.problems is None:
        return say("Every line can be read. --model M checks lengths and boundaries with that model's tokenizer.")
    say(f"Longest example: {result.longest:,} tokens, of {result.context:,} that the model reads.")
    for sentence in result.unknown_sentences():
        notice(f"{sentence}: its figures say little about the model.")
    for one in result.problems[:_PROBLEMS]:
        say(f"{one['split']} {one['index']}: {one['problem']}")
    if result.problems:
        notice(f"{len(result.problems):,} examples cannot be used with this model.")
    else:
        say("Every example can be used with this model.")
