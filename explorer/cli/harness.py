"""`lm-eval` for people: a row per task and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.actions.harness import HarnessResult, RunHarness
from explorer.cli.console import model_name, say, show_table
from explorer.core.columns import Column, cells, names

if TYPE_CHECKING:
    from explorer.experiments.harness import HarnessFigure


def _with_spread(value: float, stderr: float | None) -> str:
    return f"{value:.4g}" if stderr is None else f"{value:.4g} ± {stderr:.2g}"


def _change(one: HarnessFigure) -> str:
    if one.change_interval is None:
        return f"{one.change:+.4g}"
    low, high = one.change_interval
    return f"{one.change:+.4g} [{low:+.4g}, {high:+.4g}]"


def _test(one: HarnessFigure) -> str:
    return "" if one.p is None else f"{one.repaired} / {one.broken}, p = {one.p:.2g}"


COLUMNS: tuple[Column[HarnessFigure], ...] = (
    Column("task", lambda one: one.task),
    Column("metric", lambda one: one.metric if one.filter == "none" else f"{one.metric} ({one.filter})"),
    Column("n", lambda one: one.n),
    Column("unpruned", lambda one: _with_spread(one.baseline, one.baseline_stderr)),
    Column("with the mask", lambda one: _with_spread(one.masked, one.masked_stderr)),
    Column("change [95 % interval]", _change),
    Column("repaired / broken", _test),
)


def show(request: RunHarness, result: HarnessResult) -> None:
    """Print the figures."""
    title = f"{model_name(result.model)} ({result.dtype}), lm-evaluation-harness {result.harness}"
    show_table(title, names(COLUMNS), cells(COLUMNS, result.figures))
    if request.mask is None:
        say("No mask was given: both sides are the unpruned model.")
