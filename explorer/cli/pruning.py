"""`score` and `prune`: which singular values the task could do without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.cli import options
from explorer.cli.console import notice, say, show_json, show_table, working
from explorer.cli.reports import PruneReport, ScoredValue, ScoreEntry, ScoreReport, Scoring
from explorer.cli.setup import (
    Asked,
    command,
    identity,
    kinds_or_all,
    open_task,
    open_view,
    refuse_unwritable,
    removal_mode,
    seed_or_default,
    wording,
)
from explorer.errors import SettingsError
from explorer.keys import MatrixKey
from explorer.tasks import Task

if TYPE_CHECKING:
    from explorer.attribution import Scores
    from explorer.masks import Mask
    from explorer.models import View

SCORE_SPLIT = "train"
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
    asked = Asked(shots, template, data)
    request = _Request(
        model, task, kinds, scorer, mode, stacked, limit, seed, basis, dtype, device, asked, settings, mask
    )
    view, scores = request.run()
    ranking = scores.ranking()
    if json:
        report: ScoreReport = {
            **_scoring(view, scores, request.opened),
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
        str, typer.Option("--strategy", help="lowest (lowest scores) or random-count (control).")
    ] = "lowest",
    scorer: options.Scorer = "gradient",
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
    """Choose singular values to remove by their score on the train split, and write them to a mask file.

    Effects of several removals do not add up, so the predicted change says little beyond a few values: measure it with
    the `eval` command that is printed at the end.

    Example: `eigenprune prune --model bundled --task int-mult --kinds Q,K --count 2 --out mask.json`
    """
    refuse_unwritable(out)
    request = _Request(
        model, task, kinds, scorer, mode, stacked, limit, seed, basis, dtype, device, Asked(shots, template, data)
    )
    view, scores, mask = _choose(request, strategy, count)
    mask.save(out)
    measure = command("eval", "--model", model, "--task", task, "--mask", str(out), *request.carried(scores.seed))
    values = [_value(scores, one.key, one.index) for one in mask.removed]
    predicted = scores.predicted(mask)
    report: PruneReport = {
        **_scoring(view, scores, request.opened),
        "strategy": strategy,
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
    _show_pruned(report)


@dataclass(frozen=True)
class _Request:
    """Options that `score` and `prune` share."""

    model: str
    task: str
    kinds: str
    scorer: str
    mode: str
    stacked: bool
    limit: int | None
    seed: int | None
    basis: str
    dtype: str | None
    device: str | None
    asked: Asked
    settings: Mapping[str, Any] = field(default_factory=dict)
    mask: Path | None = None

    @cached_property
    def opened(self) -> Task:
        """The task, as it is asked."""
        return open_task(self.task, seed_or_default(self.seed), SCORE_SPLIT, self.limit, self.asked)

    def run(self, count: int = 0) -> tuple[View, Scores]:
        """Check everything that needs no model, load it, make sure that it has `count` values, and score."""
        chosen, mode, seed = kinds_or_all(self.kinds), removal_mode(self.mode), seed_or_default(self.seed)
        task = self.opened
        from explorer.attribution import SCORERS, Options
        from explorer.attribution import score as score_values
        from explorer.masks import load_mask
        from explorer.registry import matrices, shape
        from explorer.svd_cache import default_cache

        if self.scorer not in SCORERS:
            raise SettingsError(f"{self.scorer[:40]!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
        how, at = Options(**self.settings), None if self.mask is None else load_mask(self.mask)
        view = open_view(self.model, self.dtype, self.device, self.basis)
        keys = matrices(view, chosen, per_head=not self.stacked)
        total = sum(min(shape(view, key)) for key in keys)
        if count > total:
            raise SettingsError(f"{count:,} values cannot be removed: choose a --count of 0 to {total:,}.")
        with working("Scoring") as progress:
            scores = score_values(
                view,
                task,
                default_cache(notice),
                keys,
                scorer=self.scorer,
                mode=mode,
                split=SCORE_SPLIT,
                limit=self.limit,
                seed=seed,
                mask=at,
                options=how,
                progress=progress,
            )
        return view, scores

    def carried(self, seed: int) -> list[str]:
        """Options that a later command needs to see the same splits and the same weights."""
        basis = None if self.basis == "raw" else self.basis
        named = (("--seed", str(seed)), ("--basis", basis), ("--dtype", self.dtype), ("--device", self.device))
        return [*self.asked.carried(), *(word for name, value in named if value is not None for word in (name, value))]


def _choose(request: _Request, strategy: str, count: int) -> tuple[View, Scores, Mask]:
    from explorer.search import STRATEGIES, mask_of

    if strategy not in STRATEGIES:
        raise SettingsError(f"{strategy[:40]!r} is not a strategy: choose one of {', '.join(STRATEGIES)}.")
    view, scores = request.run(count)
    chosen = STRATEGIES[strategy](scores, count, scores.seed)
    return view, scores, mask_of(view, scores, chosen, task=request.opened, strategy=strategy)


def _scoring(view: View, scores: Scores, task: Task) -> Scoring:
    return {
        **identity(view),
        "task": scores.task,
        **wording(task),
        "split": scores.split,
        "n": scores.n,
        "seed": scores.seed,
        "scorer": scores.scorer,
        "mode": scores.mode,
        "loss": scores.loss,
    }


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


def _show_pruned(report: PruneReport) -> None:
    values = sorted(report["values"], key=lambda one: one["score"])
    if values:
        shown = min(len(values), _SHOWN)
        _show_values(f"Removed values of {report['model']}, {shown} of {len(values)}", values[:shown])
    say(f"Removed {report['removed']:,} of {report['scored']:,} singular values ({report['mode']}): {report['out']}")
    if report["predicted_change"] is not None:
        say(f"Predicted change: {report['predicted_change']:+.3f} nats per example, if effects added up.")
    say(f"Measure it: {report['eval_command']}")
