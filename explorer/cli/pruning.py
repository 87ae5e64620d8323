"""`score` and `prune`: which singular values the task could do without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli import options
from explorer.cli.console import notice, say, show_json, show_table, working
from explorer.cli.reports import PruneReport, ScoredValue, ScoreReport, Scoring
from explorer.cli.setup import (
    command,
    identity,
    kinds_or_all,
    open_task,
    open_view,
    refuse_unwritable,
    removal_mode,
    seed_or_default,
)
from explorer.errors import SettingsError
from explorer.keys import MatrixKey

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
    limit: options.Limit = None,
    seed: options.Seed = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Values shown; --json always has all.")] = _SHOWN,
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Rank singular values by score, the most harmful first, on the task's train split.

    A score is the predicted change of the loss, in nats per example, if that value alone is removed: negative means
    that removing it helps.

    Example: `eigenprune score --model bundled --task int-mult --kinds Q,K --top 10`
    """
    view, scores = _Request(model, task, kinds, scorer, mode, stacked, limit, seed, dtype, device).run()
    ranking = scores.ranking()
    if json:
        values = [_value(scores, key, index) for _, key, index in ranking]
        report: ScoreReport = {**_scoring(view, scores), "values": values}
        return show_json(report)
    _show_values(
        f"{min(top, len(ranking))} of {scores.size:,} singular values of {model}, most harmful first",
        [_value(scores, key, index) for _, key, index in ranking[:top]],
    )
    say(f"{scores.task}, {scores.split} split, n = {scores.n:,}, unpruned loss {scores.loss:.3f} nats per example.")


def prune(
    model: options.ModelName,
    task: options.TaskName,
    kinds: options.Kinds,
    count: Annotated[int, typer.Option("--count", min=0, help="How many singular values to remove.")],
    out: Annotated[Path, typer.Option("--out", help="Mask file to write; a file that is there is replaced.")],
    strategy: Annotated[
        str, typer.Option("--strategy", help="lowest (lowest scores) or random-count (control).")
    ] = "lowest",
    scorer: options.Scorer = "gradient",
    mode: options.Mode = "freeze",
    stacked: options.Stacked = False,
    limit: options.Limit = None,
    seed: options.Seed = None,
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
    request = _Request(model, task, kinds, scorer, mode, stacked, limit, seed, dtype, device)
    view, scores, mask = _choose(request, strategy, count)
    mask.save(out)
    measure = command("eval", "--model", model, "--task", task, "--mask", str(out), *request.carried(scores.seed))
    values = [_value(scores, one.key, one.index) for one in mask.removed]
    predicted = scores.predicted(mask) if scores.scorer != "random" else None
    report: PruneReport = {
        **_scoring(view, scores),
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
    dtype: str | None
    device: str | None

    def run(self, count: int = 0) -> tuple[View, Scores]:
        """Check everything that needs no model, load it, make sure that it has `count` values, and score."""
        chosen, mode, seed = kinds_or_all(self.kinds), removal_mode(self.mode), seed_or_default(self.seed)
        task = open_task(self.task, seed, SCORE_SPLIT, self.limit)
        from explorer.attribution import SCORERS
        from explorer.attribution import score as score_values
        from explorer.registry import matrices, shape
        from explorer.svd_cache import default_cache

        if self.scorer not in SCORERS:
            raise SettingsError(f"{self.scorer[:40]!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
        view = open_view(self.model, self.dtype, self.device)
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
                progress=progress,
            )
        return view, scores

    def carried(self, seed: int) -> list[str]:
        """Options that a later command needs to see the same splits and the same weights."""
        named = (("--seed", str(seed)), ("--dtype", self.dtype), ("--device", self.device))
        return [word for name, value in named if value is not None for word in (name, value)]


def _choose(request: _Request, strategy: str, count: int) -> tuple[View, Scores, Mask]:
    from explorer.search import STRATEGIES, mask_of

    if strategy not in STRATEGIES:
        raise SettingsError(f"{strategy[:40]!r} is not a strategy: choose one of {', '.join(STRATEGIES)}.")
    view, scores = request.run(count)
    return view, scores, mask_of(view, scores, STRATEGIES[strategy](scores, count, scores.seed))


def _scoring(view: View, scores: Scores) -> Scoring:
    return {
        **identity(view),
        "task": scores.task,
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


def _show_values(title: str, values: list[ScoredValue]) -> None:
    rows = [(one["matrix"], one["index"], one["sigma"], one["score"], one["c"]) for one in values]
    show_table(title, ("matrix", "index", "singular value", "score (nats per example)", "frozen mean c"), rows)


def _show_pruned(report: PruneReport) -> None:
    values = sorted(report["values"], key=lambda one: one["score"])
    if values:
        shown = min(len(values), _SHOWN)
        _show_values(f"Removed values of {report['model']}, {shown} of {len(values)}", values[:shown])
    say(f"Removed {report['removed']:,} of {report['scored']:,} singular values ({report['mode']}): {report['out']}")
    if report["predicted_change"] is not None:
        say(f"Predicted change: {report['predicted_change']:+.3f} nats per example, if effects added up.")
    say(f"Measure it: {report['eval_command']}")
