"""`export` for people."""

from __future__ import annotations

from explorer.actions.export import ExportMask, ExportResult
from explorer.cli.console import say, show_figures


def show(request: ExportMask, result: ExportResult) -> None:
    """Print what was written, who reads it, and how it was checked."""
    for task in result.tasks:
        rows = [("unpruned", task["baseline"]), (f"{result.removed:,} removed ({result.mode})", task["masked"])]
        show_figures(f"{task['task']}, test split", rows)
    checked = result.checked
    say(
        f"Read again by {checked.client} ({', '.join(checked.ways)}): log-probabilities differ by at most "
        f"{checked.difference:.1e} nats at {checked.positions:,} answer tokens of {checked.prompts:,} prompts; "
        f"{checked.limit:.0e} is allowed in {checked.dtype}."
    )
    for note in result.notes:
        say(note)
    say(f"For: {result.readers}")
    say(f"{result.out}: {', '.join(result.files)}; {result.size / 1e6:,.1f} MB")
