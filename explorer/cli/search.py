"""`search`: find a mask automatically, and report it beside its controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli import options
from explorer.cli.console import figures_row, notice, range_text, say, show_json, show_table, working
from explorer.cli.setup import (
    Asked,
    at_most,
    identity,
    kinds_or_all,
    layers_or_all,
    open_task,
    open_view,
    refuse_unwritable,
    removal_mode,
    seed_or_default,
    wording,
)
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.models import View
    from explorer.search.report import ControlRuns, Report
    from explorer.tasks import Task

SHARE = 0.02  # of all values that may be removed, if --max-removed does not say otherwise


def search(
    model: options.ModelName,
    task: options.TaskName,
    out: options.MaskOut,
    strategy: Annotated[
        str, typer.Option("--strategy", help="paper, adaptive, verified, learned or laser.")
    ] = "verified",
    kinds: options.Kinds = "all",
    layers: Annotated[str | None, typer.Option("--layers", help="Layers such as 0-3,7; all if not given.")] = None,
    max_removed: Annotated[
        str, typer.Option("--max-removed", help="Most values to remove: a number, or a share of all such as 0.02.")
    ] = str(SHARE),
    time: Annotated[
        float | None, typer.Option("--time", help="Seconds after which the best mask so far is the result.")
    ] = None,
    controls: Annotated[
        int, typer.Option("--controls", min=0, help="Draws of each random control of the mask; 0 for none.")
    ] = 20,
    mode: options.Mode = "freeze",
    stacked: options.Stacked = False,
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    limit: options.Limit = None,
    seed: options.Seed = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Search for a mask that lowers the loss of a task, and measure it once on the test split beside its controls.

    A search sees the train and the validation split only. The unpruned model counts as a result: if nothing helps, the
    mask is empty. Ctrl-C keeps the best mask so far.

    Keys of --json: model, model_digest, basis, task_digest, shots, template, strategy, task, seed, mode, removed,
    mask_digest, train, validation, test, baseline, controls, curve, stopped, forwards, seconds, versions, out.

    Example: `eigenprune search --model bundled --task int-mult --kinds Q,K --max-removed 20 --out mask.json`
    """
    from explorer.search import SEARCHES

    if strategy not in SEARCHES:
        raise SettingsError(f"{strategy[:40]!r} is not a search strategy: choose one of {', '.join(SEARCHES)}.")
    refuse_unwritable(out)
    chosen, wanted = kinds_or_all(kinds), layers_or_all(layers)
    removal, seed = removal_mode(mode), seed_or_default(seed)
    opened = open_task(task, seed, "train", limit, Asked(shots, template, data))
    view = open_view(model, dtype, device, basis)

    from explorer.registry import matrices, shape
    from explorer.search.anchor import anchor_blocks
    from explorer.search.problem import Budget, Problem
    from explorer.search.report import search as run
    from explorer.svd_cache import default_cache

    keys = matrices(view, chosen, wanted, per_head=not stacked)
    budget = Budget(at_most(max_removed, sum(min(shape(view, key)) for key in keys)), time)
    with working(f"Searching ({strategy})") as progress:
        problem = Problem(
            view, opened, default_cache(notice), keys, budget, mode=removal, limit=limit, seed=seed,
            text=anchor_blocks(view), progress=progress,
        )  # fmt: skip
        found = run(problem, opened, strategy, SEARCHES[strategy], control_draws=controls)
    found.mask.save(out)
    if json:
        return show_json({**identity(view), **wording(opened), **found.as_dict(), "out": str(out)})
    _show(view, opened, found, out)


def _show(view: View, task: Task, found: Report, out: Path) -> None:
    name = f"{len(found.mask):,} removed ({found.mask.mode})"
    show_table(
        f"{view.model.source.name} on {task.name}: {found.strategy}",
        ("", "accuracy [95 % interval]", "loss per example"),
        [
            figures_row("unpruned, test", found.baseline.as_dict()),
            figures_row(f"{name}, test", found.test.as_dict()),
            figures_row(f"{name}, validation", found.validation.as_dict()),
            figures_row(f"{name}, train", found.train.as_dict()),
        ],
    )
    if found.controls:
        show_table(
            "Controls of the same size, test",
            ("control", "draws", "accuracy: median (range)", "beaten in accuracy", "beaten in loss"),
            [_control_row(name, runs) for name, runs in found.controls.items()],
        )
    why = {"time": " Time was up.", "stopped": " It was stopped."}.get(found.found.stopped, "")
    say(
        f"{len(found.found.curve):,} masks measured, {found.forwards:,} forward passes of one example, "
        f"{found.seconds:.0f} s.{why}"
    )
    say(f"Mask: {out}")


def _control_row(name: str, runs: ControlRuns) -> tuple[object, ...]:
    accuracy = [run.accuracy for run in runs.runs]
    return (
        name,
        len(accuracy),
        range_text(accuracy),
        f"{runs.accuracy_percentile:.0f} %",
        f"{runs.loss_percentile:.0f} %",
    )
