"""`eval` for people: figures of a mask beside the unpruned model, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.actions.evaluate import Evaluate, EvaluateResult
from explorer.cli.console import losses_text, model_name, points_text, say, show_figures
from explorer.core.texts import accuracy_text, loss_text, range_text
from explorer.masks.gain import state_of

_RULES = {"sum": "summed log-probability", "mean": "log-probability per token"}


def show(request: Evaluate, result: EvaluateResult) -> None:
    """Print a result."""
    found, pruned = result.as_dict(), request.mask is not None or request.against is not None
    before = "unpruned" if request.against is None else f"with {request.against.name}"
    rows: list[tuple[str, Mapping[str, Any]]] = [(before, result.baseline)]
    if pruned:
        picked = {rule: one["masked"] for rule, one in (result.choice or {}).items()}
        state = state_of(result.gain or 0.0)
        name = "unpruned" if request.mask is None else f"{result.removed:,} {state} ({result.mode})"
        rows.append((name, {**found, "choice": picked or None}))
    show_figures(f"{model_name(result.model)} ({result.dtype}) on {result.task}, {result.split} split", rows)
    _show_choice(result.choice or {}, before, pruned=pruned)
    if result.lead is not None:
        _show_lead(result.lead, before, pruned=pruned)
    if pruned:
        _show_change(result)
    if result.seen is not None:
        from explorer.search.columns import seen_sentences  # reads what needs torch

        for sentence in seen_sentences(result.seen):
            say(sentence)
    if result.controls is not None:
        _show_controls(result.controls)


def _show_change(result: EvaluateResult) -> None:
    accuracy, loss = result.accuracy_change, result.loss_change
    low, high = result.loss_change_interval
    p = result.accuracy_test["p"]
    say(f"Change of accuracy: {points_text(accuracy['value'], accuracy['stderr'])}, McNemar p = {p:.2g}")
    say(
        f"Change of loss: {loss_text(loss['value'], loss['stderr'], signed=True)} per example, "
        f"95 % bootstrap interval [{low:+.3f}, {high:+.3f}]"
    )
    say(f"Wrong to right: {result.repaired:,}; right to wrong: {result.broken:,}")


def _show_choice(choice: Mapping[str, Any], before: str, *, pruned: bool) -> None:
    """One line per rule."""
    for rule, one in choice.items():
        line = f"Choice by {_RULES[rule]}: {_share_text(one['baseline'])} {before}"
        if pruned:
            line += f", {_share_text(one['masked'])} with the mask, McNemar p = {one['test']['p']:.2g}"
        say(line)


def _show_lead(lead: Mapping[str, Any], before: str, *, pruned: bool) -> None:
    """One line: the mean lead of the answer over the distractor, and how often it is ahead."""
    line = f"Answer leads distractor by {_lead_text(lead['baseline'])} {before}"
    if pruned:
        low, high = lead["change_interval"]
        line += f", {_lead_text(lead['masked'])} with the mask, change in [{low:+.3f}, {high:+.3f}]"
    say(line)


def _show_controls(controls: Mapping[str, Any]) -> None:
    accuracy, loss = controls["accuracy"], controls["loss"]
    say(
        f"{controls['draws']} masks of the control {controls['strategy']}: accuracy {range_text(accuracy)}, "
        f"loss {losses_text(loss)}; median and range"
    )
    beats = controls["percentile"]
    say(f"The mask beats {beats['accuracy']:.0f} % of them in accuracy and {beats['loss']:.0f} % in loss.")


def _share_text(share: Mapping[str, Any]) -> str:
    return accuracy_text(share["accuracy"], share["accuracy_interval"], share["n"])


def _lead_text(lead: Mapping[str, Any]) -> str:
    return f"{loss_text(lead['value'], lead['stderr'], signed=True)}, ahead in {_share_text(lead['ahead'])},"
