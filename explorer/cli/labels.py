"""`label` and `labels` for people."""

from __future__ import annotations

from explorer.actions.labels import LabelsResult
from explorer.actions.request import Request
from explorer.cli.console import say, show_table


def show(request: Request, result: LabelsResult) -> None:
    """Print labels."""
    if not result.labels:
        return say("There is no label.")
    rows = [(one.matrix, one.index, one.label, one.note) for one in result.labels]
    show_table("Labels", ("matrix", "index", "label", "note"), rows)
