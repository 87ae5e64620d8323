"""`score` and `prune`: which singular values the task could do without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.actions.choices import checked_gain, refuse_unwritable
from explorer.cli import options
from explorer.cli.console import say, show_json, show_table
from explorer.cli.reports import PruneReport, ScoredValue, ScoreEntry, ScoreReport
from explorer.cli.scoring import ScoringRequest, scoring
from explorer.cli.setup import Asked, command
from explorer.core.keys import MatrixKey

if TYPE_CHECKING:
    from explorer.attribution import Scores
    from explorer.masks.mask import Mask
    from explorer.models import View

_SHOWN = 20


def score(
    model: options.ModelName,
    task: options.TaskName,
    kinds: options.Kinds,
    scorer: options.Scorer = "gradient",
    mode: options.Mode = "freeze",
    stacked: options.Stacked = False,
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: options.Limit = None,
    seed: options.Seed = None,
    bootstrap: options.Bootstrap = 0,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", help="Score at this mask: what removing a kept value, or restoring another, does now."),
    ] = None,
    steps: options.Steps = 8,
    path: options.ScorePath = "all",
    draws: options.Draws = 1,
    batch_size: options.BatchSize = 16,
    answer_token: options.AnswerToken = 0,
    top: Annotated[int, typer.Option("--top", min=1, help="Values shown; --json always has all.")] = _SHOWN,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Rank singular values by score, the most harmful first, on the task's train split.

    A score is the predicted change of the loss, in nats per example, if that value alone is removed: negative means
    that removing it helps. (as-released, magnitude, energy and random only order the values.)

    Example: `eigenprune score --model bundled --task int-mult --kinds Q,K --bootstrap 100 --top 10`
    """
    settings = {"bootstrap": bootstrap, "steps": steps, "path": path, "draws": draws}
    settings |= {"batch_size": batch_size, "answer_token": answer_token}
    asked = Asked(shots, template, data, bos, chat, system, metric)
    request = ScoringRequest(
        model, task, kinds, scorer, mode, stacked, limit, seed, basis, dtype, device, asked, settings, mask
    )
    view, scores = request.run()
    ranking = [*scores.ranking(), *scores.unusable]
    if json:
        report: ScoreReport = {
            **scoring(view, scores, request.opened),
            "unit": scores.unit,
            "bootstrap": bootstrap,
            "mask_digest": None if scores.mask is None else scores.mask.digest,
            "values": [_entry(scores, key, index) for _, key, index in ranking],
        }
        return show_json(report)
    _show_values(
        f"{min(top, len(ranking))} of {scores.size:,} singular values of {model}, most harmful first",
        [_entry(scores, key, index) for _, key, index in ranking[:top]],
        scores.unit,
        "removed" if scores.mask is None else scores.mask.state,
    )
    state = "unpruned" if scores.mask is None else f"at {mask}:"
    say(f"{scores.task}, {scores.split} split, n = {scores.n:,}, {state} loss {scores.loss:.3f} nats per example.")


def prune(
    model: options.ModelName,
    task: options.TaskName,
    kinds: options.Kinds,
    count: Annotated[int, typer.Option("--count", min=0, help="How many singular values to remove.")],
    out: options.MaskOut,
    strategy: Annotated[
        str,
        typer.Option("--strategy", help="lowest (lowest scores) or random-pool (a control, drawn from all of them)."),
    ] = "lowest",
    scorer: options.Scorer = "gradient",
    mode: options.Mode = "freeze",
    gain: options.Gain = 0.0,
    stacked: options.Stacked = False,
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
    """Choose singular values to remove by their score on the train split, and write them to a mask file.

    Effects of several removals do not add up, so the predicted change says little beyond a few values: measure it with
    the `eval` command that is printed at the end.

    Example: `eigenprune prune --model bundled --task int-mult --kinds Q,K --count 2 --out mask.json`
    """
    gain = checked_gain(gain)
    refuse_unwritable(out)
    request = ScoringRequest(
        model, task, kinds, scorer, mode, stacked, limit, seed, basis, dtype, device,
        Asked(shots, template, data, bos, chat, system, metric),
    )  # fmt: skip
    view, scores, mask = _choose(request, strategy, count, gain)
    mask.save(out)
    measure = command("eval", "--model", model, "--task", task, "--mask", str(out), *request.carried(scores.seed))
    values = [_value(scores, one.key, one.index) for one in mask.removed]
    predicted = scores.predicted(mask)
    report: PruneReport = {
        **scoring(view, scores, request.opened),
        "strategy": strategy,
        "gain": mask.gain,
        "removed": len(mask),
        "scored": scores.size,
        "predicted_change": predicted,
        "mask_digest": mask.digest,
        "out": str(out),
        "eval_command": measure,
        "values": values,
    }
    if json:
        return show_json(report)
    _show_pruned(report, mask.state)


def _choose(request: ScoringRequest, strategy: str, count: int, gain: float) -> tuple[View, Scores, Mask]:
    from explorer.search import STRATEGIES, check_strategy, mask_of

    check_strategy(strategy)
    view, scores = request.run(count)
    chosen = STRATEGIES[strategy](scores, count, scores.seed)
    return view, scores, mask_of(view, scores, chosen, task=request.opened, strategy=strategy, gain=gain)


def _value(scores: Scores, key: MatrixKey, index: int) -> ScoredValue:
    removed = scores.removed(key, index)
    return {
        "matrix": removed.matrix,
        "index": index,
        "sigma": removed.sigma,
        "score": float(scores.matrices[key].score[index]),
        "c": removed.c,
    }


def _entry(scores: Scores, key: MatrixKey, index: int) -> ScoreEntry:
    stderr = scores.matrices[key].stderr
    return {
        **_value(scores, key, index),
        "stderr": None if stderr is None else float(stderr[index]),
        "removed": scores.mask is not None and index in scores.mask.indices(key),
    }


def _show_values(
    title: str, values: Sequence[ScoredValue | ScoreEntry], unit: str = "nats per example", state: str = "removed"
) -> None:
    """Columns for standard errors and for what a mask removes appear where there is something in them."""
    columns: dict[str, list[Any]] = {
        "matrix": [one["matrix"] for one in values],
        "index": [one["index"] for one in values],
        "singular value": [one["sigma"] for one in values],
        "score": [one["score"] for one in values],
        "stderr": [one.get("stderr") for one in values],
        "frozen mean c": [one["c"] for one in values],
        state: ["yes" if one.get("removed") else None for one in values],
    }
    shown = {name: column for name, column in columns.items() if any(cell is not None for cell in column)}
    rows = [tuple("" if cell is None else cell for cell in row) for row in zip(*shown.values(), strict=True)]
    show_table(f"{title}; scores in {unit}", tuple(shown), rows)


def _show_pruned(report: PruneReport, state: str) -> None:
    values = sorted(report["values"], key=lambda one: one["score"])
    if values:
        shown = min(len(values), _SHOWN)
        _show_values(f"{shown} of {len(values)} values {state} in {report['model']}", values[:shown])
    count, scored = f"{report['removed']:,}", f"{report['scored']:,}"
    say(f"{count} of {scored} singular values {state} ({report['mode']}): {report['out']}")
    if report["predicted_change"] is not None:
        say(f"Predicted change: {report['predicted_change']:+.3f} nats per example, if effects added up.")
    say(f"Measure it: {report['eval_command']}")
