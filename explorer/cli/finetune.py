"""`finetune`: train a copy of a model on a task before it is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from explorer.cli import options
from explorer.cli.console import say, show_figures, show_json, working
from explorer.cli.setup import Asked, identity, open_for, open_task, seed_or_default, wording


class FinetuneReport(TypedDict):
    """`finetune`: `before` and `after` per split, `change` paired on the same examples; `losses` one per step.

    `digest` is that of the fine-tuned weights; `epochs` is null if `steps` was given.
    """

    model: str
    model_digest: str
    basis: str
    dtype: str
    task: str
    task_digest: str
    shots: int
    template: str | None
    bos: str
    chat: bool
    system: str | None
    seed: int
    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int | None
    steps: int
    limit: int | None
    before: dict[str, Any]
    after: dict[str, Any]
    change: dict[str, Any]
    losses: list[float]
    digest: str
    out: str


def finetune(
    model: options.ModelName,
    task: options.TaskName,
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the fine-tuned model.")],
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the train split; 1 if not given.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps, instead of --epochs.")] = None,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate.")] = 1e-5,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Examples in a step.")] = 8,
    optimizer: Annotated[str, typer.Option("--optimizer", help="adamw or adam.")] = "adamw",
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Use only the first N examples of every split.")
    ] = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Train a copy of a model on a task's train split, and write it as a Hugging Face folder for --model.

    Optional, before pruning; the model itself stays as it is. The paper's released code always does this first, with
    `--optimizer adam --lr 0.01 --epochs 1`.

    Example: `eigenprune finetune --model bundled --task int-mult --epochs 2 --lr 1e-4 --out tuned`
    """
    seed = seed_or_default(seed)
    opened = open_task(task, seed, "train", limit, Asked(shots, template, data, bos, chat, system, metric))
    from explorer.experiments.finetune import Training, check_out
    from explorer.experiments.finetune import finetune as run

    Training(epochs, steps, lr, batch_size, optimizer, seed, limit)  # refused before the model is loaded
    check_out(out)
    view = open_for([opened], "train", limit, model, dtype, device)
    with working("Fine-tuning") as progress:
        found = run(
            view.model, opened, out=out, epochs=epochs, steps=steps, learning_rate=lr, batch_size=batch_size,
            optimizer=optimizer, seed=seed, limit=limit, progress=progress,
        )  # fmt: skip
    report: FinetuneReport = {**identity(view), **wording(opened), **found.as_dict(), "out": str(out)}  # type: ignore[typeddict-item]
    if json:
        return show_json(report)
    _show(report)


def _show(report: FinetuneReport) -> None:
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for split in report["before"]:
        rows += [(f"{when}, {split}", report[when][split]) for when in ("before", "after")]
    title = f"{report['model']} on {report['task']}: {report['steps']:,} steps of {report['optimizer']}"
    show_figures(title, rows)
    for split, change in report["change"].items():
        test, (low, high) = change["accuracy_test"], change["loss"]["interval"]
        say(
            f"{split}: wrong to right {test['repaired']:,}, right to wrong {test['broken']:,}, McNemar "
            f"p = {test['p']:.2g}; loss {change['loss']['value']:+.3f} nats, 95 % bootstrap interval "
            f"[{low:+.3f}, {high:+.3f}]"
        )
    say(f"Model: {report['out']}")
