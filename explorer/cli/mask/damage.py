"""`mask damage`: what a mask costs on other tasks and on plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.cli import options
from explorer.cli.console import accuracy_text, loss_text, notice, percent, say, show_json, show_table, working
from explorer.cli.reports import DamageReport
from explorer.cli.setup import Asked, identity, open_for, open_task, own_mask, seed_or_default
from explorer.core.errors import SettingsError
from explorer.tasks import TASKS, Task
from explorer.tasks.metric import METRIC_NAMES

if TYPE_CHECKING:
    from explorer.models import View

_SIDES = {"baseline": "unpruned", "masked": "with the mask"}


def mask_damage(
    model: options.ModelName,
    mask: Annotated[Path, typer.Option("--mask", help="Mask file.")],
    task: Annotated[
        list[str] | None, typer.Option("--task", help="A task of `tasks list`, or a .jsonl or .csv file; repeatable.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="Plain text for the perplexity: bundled, none, or the path of a UTF-8 file; if not given, bundled if "
            "the model reads it.",
        ),
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=2, help="Tokens of the text to read; 4096.")] = None,
    split: options.Split = "test",
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: options.Limit = None,
    seed: options.Seed = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure a mask on tasks that it was not made for, and on plain text, beside the unpruned model.

    Example: `eigenprune mask damage --model smollm2-135m --mask mask.json --task ioi --task capitals --limit 64`
    """
    seed = seed_or_default(seed)
    opened = open_tasks(task or [], seed, split, limit, Asked(shots, template, data, bos, chat, system, metric))
    if not opened and text == "none":
        raise SettingsError("there is nothing to measure the mask on: give a --task, a --text, or both.")
    from explorer.masks.damage import damage
    from explorer.masks.mask import load_mask
    from explorer.measure.perplexity import TOKENS
    from explorer.spectra.cache import default_cache

    given = load_mask(mask)
    view, svds = open_for(opened, split, limit, model, dtype, device, basis), default_cache(notice)
    given = own_mask(view, given)
    plain = plain_text(view, text)
    if plain is None and not opened:
        raise SettingsError(f"{model} does not know the words of the bundled text: give a --task, or a --text.")
    sizes: dict[str, Any] = {"split": split, "limit": limit, "tokens": tokens or TOKENS}
    with working("Measuring the damage") as progress:
        found = damage(view, given, svds, opened, plain, **sizes, progress=progress)
    report: DamageReport = {**identity(view), "seed": seed, **found.as_dict()}  # type: ignore[typeddict-item]
    if json:
        return show_json(report)
    _show(report, given.state)


def open_tasks(names: list[str], seed: int, split: str, limit: int | None, asked: Asked) -> list[Task]:
    """The tasks, each asked with the same shots; the data folder goes to those that need one."""

    def ask(name: str) -> Asked:
        needs_data = name in TASKS and TASKS[name].needs_data
        return asked if needs_data else replace(asked, data=None)

    return [open_task(name, seed, split, limit, ask(name)) for name in names]


def plain_text(view: View, name: str | None) -> str | None:
    """The text to measure damage on: the bundled one if the model reads it, unless a file, it or none is asked for."""
    from explorer.measure.perplexity import own_text, read_text

    if name is None:
        return own_text(view.model.tokenizer)
    if name == "none":
        return None
    return read_text() if name == "bundled" else read_text(Path(name))


def show_tasks(title: str, tasks: Sequence[dict[str, Any]]) -> None:
    """A table of every task with the mask and without it, and what changed, from `TaskDamage.as_dict`."""
    by_choice = any(one["baseline"]["metric"] != "exact" for one in tasks)
    columns = ("task", "", "accuracy", *(("by", "exact\nmatch") if by_choice else ()), "loss per example")
    rows = []
    for one in tasks:
        for side in ("baseline", "masked"):
            figures = one[side]
            exact = "" if figures["metric"] == "exact" else percent(figures["exact"]["accuracy"])
            counted = (METRIC_NAMES[figures["metric"]], exact) if by_choice else ()
            loss = loss_text(figures["loss"], figures["loss_stderr"])
            rows.append((one["task"], _SIDES[side], _share(figures), *counted, loss))
    if rows:
        show_table(title, columns, rows)
    for one in tasks:
        test, change = one["accuracy_test"], one["loss_change"]
        low, high = change["interval"]
        say(
            f"{one['task']}: wrong to right {test['repaired']:,}, right to wrong {test['broken']:,}, McNemar "
            f"p = {test['p']:.2g}; loss {change['value']:+.3f} nats, 95 % bootstrap interval [{low:+.3f}, {high:+.3f}]"
        )


def _show(report: DamageReport, state: str) -> None:
    show_tasks(f"{report['model']}, {report['removed']:,} {state}", report["tasks"])
    if report["text"] is not None:
        from explorer.measure.perplexity import perplexity_text

        text = report["text"]
        before, after, growth = text["baseline"], text["masked"], text["growth"]
        then, now = (perplexity_text(one["perplexity"], one["loss"]) for one in (before, after))
        low, high = (f"{100 * bound:+.1f}" for bound in growth["interval"])
        say(
            f"Perplexity of {before['tokens']:,} tokens of text: {then} unpruned, "
            f"{now} with the mask: {100 * growth['value']:+.1f} % [{low}, {high}]"
        )


def _share(figures: dict[str, Any]) -> str:
    return accuracy_text(figures["accuracy"], figures["accuracy_interval"], figures["n"])
