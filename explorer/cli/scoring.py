"""`score`, `prune` and `curve` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explorer.actions.scoring import Curve, CurveResult, Prune, PruneResult, Score, ScoreResult
from explorer.cli.console import figures_row, model_name, say, show_table
from explorer.core.texts import accuracy_text, loss_text
from explorer.masks.gain import state_of
from explorer.tasks.metric import accuracy_name

_SHOWN = 20


def show_scores(request: Score, result: ScoreResult) -> None:
    """Print the lowest scores."""
    shown = result.values[: request.top]
    model, total = model_name(request.model.model), len(result.values)
    title = f"{len(shown)} of {total:,} singular values of {model}, most harmful first"
    _show_values(title, shown, result.unit, state=result.state)
    state = "unpruned" if request.mask is None else f"at {request.mask}:"
    say(f"{result.task}, {result.split} split, n = {result.n:,}, {state} loss {result.loss:.3f} nats per example.")


def show_pruned(request: Prune, result: PruneResult) -> None:
    """Print what is in the mask, and how to measure it."""
    state, values = state_of(result.gain), sorted(result.values, key=lambda one: one["score"])
    if values:
        shown = min(len(values), _SHOWN)
        _show_values(f"{shown} of {len(values)} values {state} in {model_name(result.model)}", values[:shown])
    say(f"{result.removed:,} of {result.scored:,} singular values {state} ({result.mode}): {result.out}")
    if result.predicted_change is not None:
        say(f"Predicted change: {result.predicted_change:+.3f} nats per example, if effects added up.")
    say(f"Measure it: {result.eval_command}")


def show_curve(request: Curve, result: CurveResult) -> None:
    """Print the curve."""
    rows = [
        (
            one["removed"],
            accuracy_text(one["accuracy"], one["accuracy_interval"], one["n"]),
            loss_text(one["loss_change"]["value"], one["loss_change"]["stderr"], signed=True),
            "-" if one["predicted_change"] is None else f"{one['predicted_change']:+.3f} nats",
        )
        for one in result.stops
    ]
    counted = accuracy_name(result.baseline["metric"], choices=result.baseline["choice"] is not None)
    title = (
        f"{model_name(result.model)} on {result.task}, {result.eval_split} split, lowest-scored values {request.state}"
    )
    show_table(title, ("values", f"{counted} [95 % interval]", "change of the loss", "predicted"), rows)
    _, accuracy, loss = figures_row("", result.baseline)
    say(f"Unpruned: {counted} {accuracy}, loss {loss} per example; {result.scored:,} values are scored.")


def _show_values(
    title: str, values: Sequence[Mapping[str, Any]], unit: str = "nats per example", state: str = "removed"
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
