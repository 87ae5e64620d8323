"""`models list`, `models fetch`, `tasks list`: what there is to work with."""

from __future__ import annotations

from typing import Annotated

import typer

from explorer.cli import options
from explorer.cli.console import say, show_json, show_table, working
from explorer.cli.reports import ModelEntry, ModelsReport, TaskEntry, TasksReport, keys
from explorer.config import settings
from explorer.tasks import SPLITS, TASKS, load_task

models_app = typer.Typer(help="Models with a short name: list them, fetch one.")
tasks_app = typer.Typer(help="Built-in tasks: list them.")


@models_app.command("list", epilog=keys(ModelsReport))
def models_list(json: options.Json = False) -> None:
    """List the models that have a short name, and whether they are on this machine.

    Example: `eigenprune models list`
    """
    from explorer.models import NAMED

    report: ModelsReport = {"models": [_model(name) for name in NAMED]}
    if json:
        return show_json(report)
    rows = [
        (entry["name"], entry["summary"], "yes" if entry["available"] else "no", entry["folder"])
        for entry in report["models"]
    ]
    show_table("Models", ("name", "summary", "here", "folder"), rows)
    say("Not here? eigenprune models fetch NAME. Hub ids, model folders and .gguf files work without fetching.")


def _model(name: str) -> ModelEntry:
    from explorer.models import NAMED, available

    entry = NAMED[name]
    folder = str(entry.folder(settings()))
    return {"name": name, "summary": entry.summary, "available": available(name), "folder": folder}


@models_app.command("fetch", epilog=keys(ModelEntry))
def models_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `models list`.")], json: options.Json = False
) -> None:
    """Bring a model onto this machine, once; interrupted downloads resume or start again cleanly.

    Example: `eigenprune models fetch smollm2-135m`
    """
    with working(f"Fetching {name}") as progress:
        from explorer.models import fetch

        fetch(name, progress)
    entry = _model(name)
    if json:
        return show_json(entry)
    say(f"{name} is in {entry['folder']}")


@tasks_app.command("list", epilog=keys(TasksReport))
def tasks_list(json: options.Json = False) -> None:
    """List the built-in tasks with the sizes of their splits and one example.

    A .jsonl file with `prompt`, `answer` and optionally `split` on each line is a task, too.

    Example: `eigenprune tasks list --json`
    """
    report: TasksReport = {"tasks": [_task(name) for name in TASKS]}
    if json:
        return show_json(report)
    rows = [
        (
            entry["name"],
            entry["description"],
            *entry["sizes"].values(),
            repr(entry["sample"]["prompt"]),
            repr(entry["sample"]["answer"]),
        )
        for entry in report["tasks"]
    ]
    show_table("Tasks", ("name", "description", *SPLITS, "prompt", "answer"), rows)


def _task(name: str) -> TaskEntry:
    task = load_task(name, settings().seed)
    sample = task.train[0]
    return {
        "name": name,
        "description": task.description,
        "sizes": {split: len(task.split(split)) for split in SPLITS},
        "sample": {"prompt": sample.prompt, "answer": sample.answer},
    }
