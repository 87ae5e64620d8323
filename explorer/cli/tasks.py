"""`tasks list`, `tasks show`, `tasks validate`: what there is to ask, and how a model's tokenizer reads it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli import options
from explorer.cli.console import notice, percent, say, show_json, show_table
from explorer.cli.reports import keys
from explorer.cli.setup import Asked, open_for, open_task, open_view, read_task, seed_or_default, wording
from explorer.cli.task_reports import (
    Answers,
    Problem,
    TaskEntry,
    TaskReport,
    TasksReport,
    TokenisedExample,
    ValidateReport,
)
from explorer.core.config import settings
from explorer.core.errors import TaskError
from explorer.tasks import SPLITS, TASKS, Example, Task, load_task

if TYPE_CHECKING:
    from explorer.models import View

tasks_app = typer.Typer(help="Tasks: list the built-in ones, show examples and their tokens, check a file.")
_SHOWN = 5
UNFIT = 1

Name = Annotated[str, typer.Argument(metavar="TASK", help="A task of `tasks list`, or a .jsonl or .csv file.")]
Tokenizer = Annotated[str | None, typer.Option("--model", help="Cut the text as this model's tokenizer does.")]


@tasks_app.command("list", epilog=keys(TasksReport))
def tasks_list(data: options.Data = None, json: options.Json = False) -> None:
    """List the built-in tasks with the sizes of their splits and one example.

    A .jsonl or .csv file with `prompt`, `answer`, and perhaps `choices`, `distractor` and `split`, is a task, too.

    Example: `eigenprune tasks list --json`
    """
    report: TasksReport = {"tasks": [_entry(name, Asked(data=data)) for name in TASKS]}
    if json:
        return show_json(report)
    rows = [(one["name"], one["description"], _sizes(one), repr(one["template"])) for one in report["tasks"]]
    show_table("Tasks", ("name", "description", " / ".join(SPLITS), "template"), rows)
    if data is None:
        say("cb, copa and rte come from the hub when they are used, or from --data DIR with SuperGLUE's JSON lines.")


def _sizes(entry: TaskEntry) -> str:
    return "" if entry["sizes"] is None else " / ".join(f"{size:,}" for size in entry["sizes"].values())


def _entry(name: str, asked: Asked) -> TaskEntry:
    spec = TASKS[name]
    here = not spec.needs_data or asked.data is not None
    task = load_task(name, settings().seed, data=asked.data if spec.needs_data else None) if here else None
    return {
        "name": name,
        "description": spec.description,
        "template": spec.template,
        "placeholders": list(spec.placeholders),
        "needs_data": spec.needs_data,
        "sizes": None if task is None else {split: len(task.split(split)) for split in SPLITS},
        "sample": None if task is None else {"prompt": task.train[0].prompt, "answer": task.train[0].answer},
    }


@tasks_app.command("show", epilog=keys(TaskReport))
def tasks_show(
    task: Name,
    model: Tokenizer = None,
    split: options.Split = "train",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many examples to show.")] = _SHOWN,
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    seed: options.Seed = None,
    json: options.Json = False,
) -> None:
    """Show examples of a task, with a model cut into tokens as its tokenizer cuts them.

    Example: `eigenprune tasks show int-mult --model bundled --shots 2`
    """
    seed = seed_or_default(seed)
    opened = open_task(task, seed, split, None, Asked(shots, template, data, bos, chat, system))
    view = None if model is None else open_for([opened], split, None, model, None, None)
    examples = opened.split(split)
    report: TaskReport = {
        "task": opened.name,
        "description": opened.description,
        **wording(opened),
        "split": split,
        "seed": seed,
        "n": len(examples),
        "examples": [_tokenised(view, opened, example) for example in examples[:limit]],
    }
    if json:
        return show_json(report)
    say(f"{report['task']}: {report['description']}; {report['n']:,} in the {split} split, seed {seed}")
    for number, one in enumerate(report["examples"]):
        _show_example(number, one)


def _tokenised(view: View | None, task: Task, example: Example) -> TokenisedExample:
    prompt, answer, problem = None, None, None
    if view is not None:
        from explorer.measure.tokens import encode_for, token_texts

        tokenizer = view.model.tokenizer
        problem = _problem(view, task, example)[1]
        if problem is None:
            (encoded,) = encode_for(view.model, task, [example])
            prompt, answer = token_texts(tokenizer, encoded.prompt), token_texts(tokenizer, encoded.answer)
    return {
        "prompt": example.prompt,
        "answer": example.answer,
        "choices": list(example.choices),
        "distractor": example.distractor,
        "prompt_tokens": prompt,
        "answer_tokens": answer,
        "problem": problem,
    }


def _show_example(number: int, one: TokenisedExample) -> None:
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


def _problem(view: View, task: Task, example: Example) -> tuple[int, str | None]:
    """The example's length in tokens, and why the model cannot take it with each of its answers, if it cannot."""
    from explorer.measure.tokens import Encoded, check_different, encode_for

    longest = int(view.config.n_ctx)
    others = [one for one in (*example.choices, example.distractor) if one is not None]
    found: list[tuple[str, Encoded]] = []
    try:
        for text in dict.fromkeys((example.answer, *others)):
            found += [(text, one) for one in encode_for(view.model, task, [example.answered(text)])]
        check_different(example, found)
    except TaskError as error:
        return max((one.length for _, one in found), default=0), str(error)
    length = max(one.length for _, one in found)
    if length > longest:
        return length, f"the example has {length} tokens: this model reads 1 to {longest}; shorten it."
    return length, None


@tasks_app.command("validate", epilog=keys(ValidateReport))
def tasks_validate(
    task: Name,
    model: Tokenizer = None,
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    seed: options.Seed = None,
    json: options.Json = False,
) -> None:
    """Check a task: every line of a file, what its splits share, and, with a model, every boundary and length.

    Exit code 1 if there are examples that the model cannot take.

    Example: `eigenprune tasks validate int-mult --model bundled`
    """
    seed = seed_or_default(seed)
    opened = read_task(task, seed, Asked(shots, template, data, bos, chat, system))
    view = None if model is None else open_view(model, None, None)
    report = _validated(opened, view, seed)
    if json:
        show_json(report)
    else:
        _show_validated(report)
    if report["problems"]:
        raise typer.Exit(UNFIT)


def _validated(task: Task, view: View | None, seed: int) -> ValidateReport:
    parts: dict[str, tuple[Example, ...]] = {split: getattr(task, split) for split in SPLITS}
    checked = [
        (split, index, *_problem(view, task, one))
        for split in SPLITS
        for index, one in enumerate(parts[split])
        if view is not None
    ]
    problems: list[Problem] = [
        {"split": split, "index": index, "problem": problem} for split, index, _, problem in checked if problem
    ]
    return {
        "task": task.name,
        "description": task.description,
        **wording(task),
        "seed": seed,
        "sizes": {split: len(part) for split, part in parts.items()},
        "seen": {split: task.seen(split) for split in SPLITS},
        "with_choices": {split: sum(bool(one.choices) for one in part) for split, part in parts.items()},
        "with_distractor": {split: sum(one.distractor is not None for one in part) for split, part in parts.items()},
        "answers": {split: _answers(part) for split, part in parts.items()},
        "notices": list(task.notices),
        "longest": None if view is None else max(length for _, _, length, _ in checked),
        "context": None if view is None else int(view.config.n_ctx),
        "unknown": None if view is None else _unknown(view, task),
        "problems": None if view is None else problems,
    }


def _unknown(view: View, task: Task) -> dict[str, float]:
    """Share of each split's prompts that the tokenizer does not know."""
    from explorer.measure.tokens import unknown_share

    parts = {split: list(dict.fromkeys(one.prompt for one in getattr(task, split))) for split in SPLITS}
    return {split: unknown_share(view.model.tokenizer, prompts) for split, prompts in parts.items()}


def _answers(examples: tuple[Example, ...]) -> Answers | None:
    if not examples:
        return None
    counts = Counter(example.answer for example in examples)
    ((most_common, count),) = counts.most_common(1)
    return {"distinct": len(counts), "most_common": most_common, "majority": count / len(examples)}


def _show_validated(report: ValidateReport) -> None:
    from explorer.measure.tokens import MAX_UNKNOWN, unknown_sentence

    say(f"{report['task']}: {report['description']}, seed {report['seed']}")
    for split in SPLITS:
        figures = [f"{report['sizes'][split]:,} examples"]
        if (answers := report["answers"][split]) is not None:
            most = f"{answers['most_common']!r} in {percent(answers['majority'])}"
            figures += [f"{answers['distinct']:,} different answers", most]
        counts = (report["with_choices"], report["with_distractor"], report["seen"])
        words = ("with choices", "with distractor", "in an earlier split")
        figures += [f"{count[split]:,} {word}" for count, word in zip(counts, words, strict=True) if count[split]]
        say(f"  {split}: {', '.join(figures)}")
    if report["problems"] is None:
        return say("Every line can be read. --model M checks lengths and boundaries with that model's tokenizer.")
    say(f"Longest example: {report['longest']:,} tokens, of {report['context']:,} that the model reads.")
    for split, share in (report["unknown"] or {}).items():
        if share > MAX_UNKNOWN:
            notice(f"{unknown_sentence(share, f'the {split} prompts')}: its figures say little about the model.")
    for one in report["problems"][:_SHOWN]:
        say(f"{one['split']} {one['index']}: {one['problem']}")
    if report["problems"]:
        notice(f"{len(report['problems']):,} examples cannot be used with this model.")
    else:
        say("Every example can be used with this model.")
