"""`slices` for people."""

from __future__ import annotations

from explorer.actions.slices import SliceExamples, SlicesResult
from explorer.cli.console import model_name, say, show_table
from explorer.core.columns import cells, names
from explorer.masks.gain import state_of

SHOWN = 40  # examples


def show(request: SliceExamples, result: SlicesResult) -> None:
    """Print a result."""
    from explorer.measure.slices import SLICE_COLUMNS, slices_sentence  # needs torch

    state = "unpruned" if result.gain is None else f"{result.removed:,} {state_of(result.gain)} ({result.mode})"
    only = "" if result.only is None else f", only {result.only}"
    title = f"{model_name(result.model)}, {state}, on {result.task}{only}, {result.split} split, by {result.by}"
    show_table(title, names(SLICE_COLUMNS), cells(SLICE_COLUMNS, result.slices))
    say(slices_sentence(result.slices, result.by))
    say(f"Slice by: {', '.join(result.columns)}, or a condition such as prompt~not.")
    if result.examples is not None:
        rows = [
            (one["prompt"], one["answer"], one["loss_before"], one["loss"], one["slice"]) for one in result.examples
        ]
        show_table("Examples", ("prompt", "answer", "loss before", "loss", "slice"), rows[:SHOWN])
        if len(rows) > SHOWN:
            say(f"The first {SHOWN} of {len(rows):,} examples; --json has all.")
